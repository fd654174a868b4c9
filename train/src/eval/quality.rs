//! How good generated images are: recognised, diverse, and near the real ones.

use std::fmt;

use candle_core::{Device, Tensor};
use drifting_models::Generator;
use drifting_spec::Inputs;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Better, ClassFigures, Contract, EvalError, Evaluation, FEATURES, Figure, Gaussian, Judge, Provenance, Result,
    Rounding, frechet_distance,
};
use crate::data::Dataset;

/// Images generated at once.
const BATCH: usize = 100;
/// Images of a class whose pairs are compared, generated or real.
pub(super) const PAIRED: usize = 200;

/// Generated images and what was asked for.
#[derive(Clone, Debug)]
pub struct Samples {
    /// `[n, channels, height, width]`; what is outside [-1, 1] is cut off, as in a picture.
    pub images: Tensor,
    /// The class of each image.
    pub labels: Vec<usize>,
}

impl Samples {
    /// `per_class` images of every class that `generator` draws with guidance `alpha` from `seed`.
    ///
    /// # Errors
    /// Only those of the generator.
    pub fn of(generator: &Generator, seed: u64, alpha: f32, per_class: usize) -> drifting_models::Result<Self> {
        let config = generator.config();
        let labels: Vec<usize> = (0..config.classes * per_class).map(|index| index / per_class).collect();
        let mut batches = Vec::new();
        for (first, classes) in (0u64..).step_by(BATCH).zip(labels.chunks(BATCH)) {
            let mut inputs = Inputs::default();
            for (index, class) in (first..).zip(classes) {
                inputs.push_seeded(config, seed, index, *class, alpha);
            }
            batches.push(generator.run(&inputs)?.to_device(&Device::Cpu)?);
        }
        Ok(Self { images: Tensor::cat(&batches, 0)?, labels })
    }
}

/// The judge together with what it says about the real images.
#[derive(Debug)]
pub struct Reference {
    judge: Judge,
    accuracy: f64,
    classes: Vec<Real>,
    train: Gaussian,
    floor: f64,
    floor_images: usize,
}

#[derive(Debug)]
struct Real {
    name: String,
    accuracy: f64,
    distance: f64,
}

/// The quality of the images of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassQuality {
    /// Name of the class.
    pub name: String,
    /// Generated images.
    pub images: usize,
    /// Share of them that the judge recognises as this class.
    pub accuracy: f64,
    /// Share of the real test images that the judge recognises as this class.
    pub real_accuracy: f64,
    /// Mean L2 distance of two generated images, pixels in [-1, 1].
    pub distance: f64,
    /// Mean L2 distance of two real training images.
    pub real_distance: f64,
    /// The former divided by the latter; 1 where all real images are the same.
    pub diversity: f64,
}

/// Fréchet distance in the judge's features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frechet {
    /// Generated against real training images.
    pub distance: f64,
    /// Generated images.
    pub images: usize,
    /// Real test images against real training images.
    pub floor: f64,
    /// Real test images.
    pub floor_images: usize,
    /// Real training images.
    pub reference_images: usize,
}

/// What was measured on a set of generated images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QualityReport {
    /// Share of the real test images that the judge recognises: what can be expected of the next number.
    pub judge_accuracy: f64,
    /// Share of the generated images that are recognised as the class asked for, averaged over classes.
    pub accuracy: f64,
    /// Diversity averaged over classes.
    pub diversity: f64,
    /// Diversity of the least diverse class.
    pub min_diversity: f64,
    /// Fréchet distance.
    pub frechet: Frechet,
    /// Each class.
    pub classes: Vec<ClassQuality>,
}

impl Reference {
    /// Lets `judge` look at the real images.
    ///
    /// # Errors
    /// Images of another shape, other classes, a class with fewer than two training images.
    pub fn new(judge: Judge, train: &Dataset, test: &Dataset) -> Result<Self> {
        let (known, given) = (judge.classes(), train.classes());
        if given != test.classes() || given.len() != known {
            let problem = format!("judge: knows {known} classes, the training images {}", given.len());
            return Err(EvalError::Samples(format!("{problem}, the test images {}", test.classes().len())));
        }
        let all = |data: &Dataset| data.tensor(&(0..data.len()).collect::<Vec<_>>(), &Device::Cpu);
        let test_images = all(test)?;
        let found = judge.recognise(&test_images)?;
        let train_features = Gaussian::of(&judge.features(&all(train)?)?)?;
        let floor = frechet_distance(&Gaussian::of(&judge.features(&test_images)?)?, &train_features)?;
        let real = |(class, name): (usize, &String)| {
            let images = train.of_class(class);
            let images = train.tensor(&images[..images.len().min(PAIRED)], &Device::Cpu)?;
            let distance = pair_distance(name, &images.flatten_from(1)?.to_vec2()?)?;
            Ok(Real { name: name.clone(), accuracy: share(&found, test.of_class(class), class), distance })
        };
        let classes = given.iter().enumerate().map(real).collect::<Result<Vec<_>>>()?;
        let right = found.iter().zip(test.labels()).filter(|(found, label)| found == label).count();
        let accuracy = right as f64 / test.len() as f64;
        Ok(Self { judge, accuracy, classes, train: train_features, floor, floor_images: test.len() })
    }

    /// The judge.
    #[must_use]
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Share of the real test images that the judge recognises.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.accuracy
    }

    /// Measures generated images. There should be as many of each class as the real test images have when the Fréchet
    /// distance is to be compared with its floor.
    ///
    /// # Errors
    /// Images of another shape, a label beyond the classes, a class with fewer than two images.
    pub fn measure(&self, samples: &Samples) -> Result<QualityReport> {
        let images = samples.images.to_device(&Device::Cpu)?.clamp(-1f32, 1f32)?;
        let features = self.judge.features(&images)?;
        let found = self.judge.recognise_features(&features)?;
        let mut by_class = vec![Vec::new(); self.classes.len()];
        if samples.labels.len() != found.len() {
            let problem = format!("{} generated images with {} labels", found.len(), samples.labels.len());
            return Err(EvalError::Samples(problem));
        }
        for (index, &label) in samples.labels.iter().enumerate() {
            match by_class.get_mut(label) {
                Some(images) => images.push(index),
                None => {
                    return Err(EvalError::Samples(format!("generated image {index} has the unknown label {label}")));
                }
            }
        }
        let measured = self.classes.iter().zip(&by_class).enumerate();
        let measured = measured.map(|(class, (real, indices))| {
            let accuracy = share(&found, indices, class);
            self.class(real, &images, indices, accuracy)
        });
        let classes = measured.collect::<Result<Vec<_>>>()?;
        let generated = Gaussian::of(&features)?;
        let frechet = Frechet {
            distance: frechet_distance(&generated, &self.train)?,
            images: generated.count(),
            floor: self.floor,
            floor_images: self.floor_images,
            reference_images: self.train.count(),
        };
        let mean = |of: fn(&ClassQuality) -> f64| classes.iter().map(of).sum::<f64>() / classes.len() as f64;
        Ok(QualityReport {
            judge_accuracy: self.accuracy,
            accuracy: mean(|class| class.accuracy),
            diversity: mean(|class| class.diversity),
            min_diversity: classes.iter().map(|class| class.diversity).fold(f64::INFINITY, f64::min),
            frechet,
            classes,
        })
    }

    fn class(&self, real: &Real, images: &Tensor, indices: &[usize], accuracy: f64) -> Result<ClassQuality> {
        let paired: Vec<u32> = indices.iter().take(PAIRED).map(|&index| index as u32).collect();
        let images = images.index_select(&Tensor::new(paired, &Device::Cpu)?, 0)?;
        let distance = pair_distance(&real.name, &images.flatten_from(1)?.to_vec2()?)?;
        let diversity = if real.distance > 0.0 { distance / real.distance } else { 1.0 };
        Ok(ClassQuality {
            name: real.name.clone(),
            images: indices.len(),
            accuracy,
            real_accuracy: real.accuracy,
            distance,
            real_distance: real.distance,
            diversity,
        })
    }
}

/// Share of the images at `indices` in which `class` was found.
fn share(found: &[usize], indices: &[usize], class: usize) -> f64 {
    let right = indices.iter().filter(|&&index| found[index] == class).count();
    right as f64 / indices.len().max(1) as f64
}

/// Mean L2 distance over all pairs of images.
pub(super) fn pair_distance(class: &str, images: &[Vec<f32>]) -> Result<f64> {
    let count = images.len();
    if count < 2 {
        return Err(EvalError::Samples(format!("class {class} has {count} images, its diversity needs at least 2")));
    }
    let distance = |left: &[f32], right: &[f32]| {
        let squares: f32 = left.iter().zip(right).map(|(l, r)| (l - r) * (l - r)).sum();
        f64::from(squares).sqrt()
    };
    let to_later = |first: usize| images[first + 1..].iter().map(|other| distance(&images[first], other)).sum();
    // Collected before they are added, so that the sum does not depend on threads.
    let sums: Vec<f64> = (0..count).into_par_iter().map(to_later).collect();
    Ok(sums.iter().sum::<f64>() / (count * (count - 1) / 2) as f64)
}

impl QualityReport {
    /// The same as figures of `judge`. The contract says how: unrounded, since these images were never pictures.
    #[must_use]
    pub fn evaluation(&self, judge: &Judge, provenance: Provenance) -> Evaluation {
        let contract = Contract::new(judge, judge.shape(), Rounding::Unrounded);
        let images: usize = self.classes.iter().map(|class| class.images).sum();
        let Frechet { distance, floor_images, reference_images, .. } = self.frechet;
        let figure = |name: &str, value, better| Figure::new(judge, (name, value), better, images);
        let floor = |floor| (Some(floor), Some(floor_images));
        let compared = |figure, (floor, floor_images), real| Figure { floor, floor_images, real, ..figure };
        let figures = vec![
            compared(figure("fd-judge", distance, Better::Lower), floor(self.frechet.floor), Some(reference_images)),
            compared(figure("accuracy", self.accuracy, Better::Higher), floor(self.judge_accuracy), None),
            figure("diversity", self.diversity, Better::Higher),
            figure("least-diversity", self.min_diversity, Better::Higher),
        ];
        let class = |class: &ClassQuality| ClassFigures {
            name: class.name.clone(),
            images: class.images,
            recall: Some(class.accuracy),
            real_recall: Some(class.real_accuracy),
            distance: Some(class.distance),
            real_distance: Some(class.real_distance),
            diversity: Some(class.diversity),
        };
        let classes = self.classes.iter().map(class).collect();
        Evaluation::new(contract, provenance, figures, classes)
    }
}

impl fmt::Display for QualityReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.classes.iter().map(|class| class.name.chars().count()).chain([5]).max().unwrap_or(5);
        writeln!(formatter, "{:width$}  recognised  (real)  diversity  distance  (real)", "class")?;
        for class in &self.classes {
            let (accuracy, real) = (100.0 * class.accuracy, 100.0 * class.real_accuracy);
            write!(formatter, "{:width$}  {accuracy:8.1} %  {real:5.0}%  {:9.2}", class.name, class.diversity)?;
            writeln!(formatter, "  {:8.2}  {:6.2}", class.distance, class.real_distance)?;
        }
        let (accuracy, real) = (100.0 * self.accuracy, 100.0 * self.judge_accuracy);
        write!(formatter, "{:width$}  {accuracy:8.1} %  {real:5.0}%  {:9.2}", "mean", self.diversity)?;
        writeln!(formatter, "  (least {:.2})", self.min_diversity)?;
        let Frechet { distance, images, floor, floor_images, reference_images } = self.frechet;
        writeln!(formatter, "judge: a CNN that recognises {real:.1} % of {floor_images} real test images")?;
        writeln!(
            formatter,
            "Fréchet distance in its {FEATURES} features, against {reference_images} training images:"
        )?;
        write!(formatter, "  {distance:.2} of {images} generated images, {floor:.2} of {floor_images} real test images")
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::{ImageShape, Stream};

    use super::*;
    use crate::eval::JudgeSettings;

    const SHAPE: ImageShape = ImageShape { channels: 1, height: 8, width: 8 };

    /// Two classes: bright above and bright below, with noise.
    fn pixels(label: usize, index: u64, noise: f64) -> Vec<u8> {
        let mut stream = Stream::new(label as u64, "pixels", index);
        let value = |row: usize| if (row < 4) == (label == 0) { 200.0 } else { 50.0 };
        (0..64).map(|at| (value(at / 8) + noise * stream.normal()).clamp(0.0, 255.0) as u8).collect()
    }

    fn data(count: usize, first: u64, noise: f64) -> Dataset {
        let labels: Vec<usize> = (0..count).map(|index| index % 2).collect();
        let pixels = labels.iter().zip(first..).flat_map(|(&label, index)| pixels(label, index, noise)).collect();
        Dataset::new(SHAPE, pixels, labels, vec!["above".into(), "below".into()]).unwrap()
    }

    fn samples(data: &Dataset) -> Samples {
        let everything: Vec<usize> = (0..data.len()).collect();
        Samples { images: data.tensor(&everything, &Device::Cpu).unwrap(), labels: data.labels().to_vec() }
    }

    fn reference() -> Reference {
        let train = data(400, 0, 20.0);
        let mut last = None;
        let settings = JudgeSettings { seed: 1, epochs: 3 };
        let judge = Judge::train(&train, settings, |progress| last = Some(progress)).unwrap();
        assert_eq!(last.map(|last| (last.step, last.steps)), Some((21, 21)));
        Reference::new(judge, &train, &data(100, 1000, 20.0)).unwrap()
    }

    #[test]
    fn real_images_are_perfect_and_copies_are_not() {
        let reference = reference();
        assert_eq!(reference.accuracy(), 1.0);
        let real = reference.measure(&samples(&data(100, 2000, 20.0))).unwrap();
        assert_eq!((real.accuracy, real.classes.len()), (1.0, 2));
        assert!((real.diversity - 1.0).abs() < 0.05 && real.min_diversity <= real.diversity, "{real}");
        assert!(real.frechet.distance < 3.0 * real.frechet.floor, "{real}");

        let dull = reference.measure(&samples(&data(100, 2000, 2.0))).unwrap();
        assert!(dull.diversity < 0.2 && dull.frechet.distance > 3.0 * real.frechet.distance, "{dull}\n{real}");
        let mut swapped = samples(&data(100, 2000, 20.0));
        swapped.labels.iter_mut().for_each(|label| *label = 1 - *label);
        assert_eq!(reference.measure(&swapped).unwrap().accuracy, 0.0);
        let json = serde_json::to_string(&real).unwrap();
        let back: QualityReport = serde_json::from_str(&json).unwrap();
        // Numbers that are read from JSON may differ in their last bit.
        assert!((back.frechet.distance - real.frechet.distance).abs() < 1e-14, "{json}");
        assert_eq!(back.to_string(), real.to_string());
    }

    #[test]
    fn what_cannot_be_measured_is_an_error() {
        let reference = reference();
        let good = samples(&data(10, 0, 1.0));
        let message = |images: Tensor, labels: &[usize]| {
            reference.measure(&Samples { images, labels: labels.to_vec() }).unwrap_err().to_string()
        };
        assert_eq!(message(good.images.clone(), &[0; 9]), "10 generated images with 9 labels");
        assert_eq!(message(good.images.clone(), &[2; 10]), "generated image 0 has the unknown label 2");
        let one = message(good.images.clone(), &[0; 10]);
        assert_eq!(one, "class below has 0 images, its diversity needs at least 2");
        let wide = Tensor::zeros((10, 1, 8, 9), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert_eq!(message(wide, &[0; 10]), "judge: images are [10, 1, 8, 9], expected [n, 1, 8, 8]");
    }

    #[test]
    fn distances_are_averaged_over_pairs() {
        let images = [[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]].map(Vec::from);
        assert!((pair_distance("x", &images).unwrap() - 10.0 / 3.0).abs() < 1e-12);
    }
}
