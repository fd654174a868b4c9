//! How the judge learns.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use drifting_spec::{ImageShape, Stream};

use super::{EvalError, Judge, Result};
use crate::data::Dataset;
use crate::optim::{AdamW, AdamWSettings, Decay, Schedule};

/// Images of a step.
const BATCH: usize = 64;
/// Learning rate at the end of the warm-up; a cosine brings it to 0.
const LR: f64 = 4e-3;
const WEIGHT_DECAY: f64 = 0.05;
const CLIP: f64 = 2.0;
/// Share of the target that is spread over all classes.
const SMOOTHING: f32 = 0.1;
/// Largest shift of an image in pixels, each way.
const SHIFT: usize = 1;

/// How a judge is trained; the same settings, images and threads give the same judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgeSettings {
    /// Seed of weights, order and shifts.
    pub seed: u64,
    /// Passes over the images.
    pub epochs: usize,
}

impl Default for JudgeSettings {
    fn default() -> Self {
        Self { seed: 0, epochs: 10 }
    }
}

/// Where the training of a judge stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JudgeProgress {
    /// Steps taken.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean cross entropy of the last batch.
    pub loss: f64,
}

impl Judge {
    /// Trains a judge on real images, calling `progress` after every step: AdamW with a cosine schedule on shifted
    /// images with smoothed labels. Two cores take about half a minute for 5,000 images of 28 x 28 pixels, and more for
    /// more or larger ones.
    ///
    /// # Errors
    /// Images smaller than 4 x 4, no epochs, and a training that diverges.
    pub fn train(data: &Dataset, settings: JudgeSettings, mut progress: impl FnMut(JudgeProgress)) -> Result<Self> {
        let JudgeSettings { seed, epochs } = settings;
        if epochs == 0 {
            return Err(EvalError::Samples("judge: 0 epochs, expected at least 1".into()));
        }
        let judge = Self::untrained(data.shape(), data.classes().len(), (seed, epochs), data.sha256())?;
        let steps = (data.len().div_ceil(BATCH) * epochs) as u64;
        let decay = Decay::Cosine { steps: steps + 1, floor: 0.0 };
        let schedule = Schedule { lr: LR, warmup_steps: steps / 20, decay };
        schedule.validate()?;
        let settings = AdamWSettings { weight_decay: WEIGHT_DECAY, ..AdamWSettings::default() };
        let mut adamw = AdamW::new(settings, judge.params())?;
        for epoch in 0..epochs as u64 {
            let order = Stream::new(seed, "judge.order", epoch).choose(data.len(), data.len());
            for indices in order.chunks(BATCH) {
                let step = adamw.steps();
                let images = shifted(&data.images(indices), data.shape(), Stream::new(seed, "judge.shift", step));
                let labels: Vec<usize> = indices.iter().map(|&index| data.labels()[index]).collect();
                let (loss, gradients) = judge.gradients(images, &labels)?;
                adamw.step(judge.params(), &gradients, schedule.at(step), Some(CLIP))?;
                progress(JudgeProgress { step: step + 1, steps, loss });
            }
        }
        judge.finished()
    }

    /// Cross entropy with smoothed labels, and its gradient by parameter.
    fn gradients(&self, images: Vec<f32>, labels: &[usize]) -> Result<(f64, BTreeMap<String, Tensor>)> {
        let ImageShape { channels, height, width } = self.shape();
        let images = Tensor::from_vec(images, (labels.len(), channels, height, width), &Device::Cpu)?;
        let scores = self.classify(&self.forward_features(&images)?)?;
        let (loss, gradient) = cross_entropy(&scores.to_vec2()?, labels);
        // The gradient of the loss is known in closed form: nothing differentiates through the loss.
        let gradient = Tensor::from_vec(gradient, scores.shape(), &Device::Cpu)?;
        let gradients = (scores * gradient)?.sum_all()?.backward()?;
        let by_name = |(name, var): (&str, &candle_core::Var)| Some((name.to_owned(), gradients.get(var)?.clone()));
        Ok((loss, self.params().iter().filter_map(by_name).collect()))
    }
}

/// The mean loss, and its gradient in the scores row by row.
fn cross_entropy(scores: &[Vec<f32>], labels: &[usize]) -> (f64, Vec<f32>) {
    let share = 1.0 / scores.len() as f32;
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for (row, &label) in scores.iter().zip(labels) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|score| (score - largest).exp()).sum();
        for (class, score) in row.iter().enumerate() {
            let log = score - largest - sum.ln();
            let target = SMOOTHING / row.len() as f32 + if class == label { 1.0 - SMOOTHING } else { 0.0 };
            loss -= f64::from(share * target * log);
            gradient.push(share * (log.exp() - target));
        }
    }
    (loss, gradient)
}

/// Moves each image by up to [`SHIFT`] pixels; the border is repeated.
fn shifted(images: &[f32], shape: ImageShape, mut stream: Stream) -> Vec<f32> {
    let ImageShape { height, width, .. } = shape;
    let mut moved = Vec::with_capacity(images.len());
    for image in images.chunks_exact(shape.len()) {
        let (down, right) = (stream.below(2 * SHIFT + 1), stream.below(2 * SHIFT + 1));
        let from = |to: usize, shift: usize, size: usize| (to + shift).saturating_sub(SHIFT).min(size - 1);
        for plane in image.chunks_exact(height * width) {
            for y in 0..height {
                let row = from(y, down, height) * width;
                moved.extend((0..width).map(|x| plane[row + from(x, right, width)]));
            }
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataSource;

    const SHAPE: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };

    fn embedded() -> (Dataset, Dataset) {
        let source = DataSource::default();
        let (train, _) = source.open(SHAPE).unwrap();
        let (test, _) = source.open_test(&train).unwrap().unwrap();
        (train, test)
    }

    fn accuracy(judge: &Judge, test: &Dataset) -> f64 {
        let images = test.tensor(&(0..test.len()).collect::<Vec<_>>(), &Device::Cpu).unwrap();
        judge.accuracy(&images, test.labels()).unwrap()
    }

    #[test]
    fn a_little_training_goes_a_long_way_and_repeats() {
        let (train, test) = embedded();
        let (_, few) = train.hold_out(10).unwrap();
        let settings = JudgeSettings { seed: 1, epochs: 6 };
        let judge = Judge::train(&few, settings, |_| ()).unwrap();
        let accuracy = accuracy(&judge, &test);
        assert!(accuracy > 0.6, "{accuracy}");
        let again = Judge::train(&few, settings, |_| ()).unwrap();
        for ((name, first), (_, second)) in judge.params().iter().zip(again.params().iter()) {
            let [first, second] = [first, second].map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            assert_eq!(first, second, "{name}");
        }
        assert!(Judge::train(&few, JudgeSettings { epochs: 0, ..settings }, |_| ()).is_err());
    }

    #[test]
    #[ignore = "takes half a minute on two cores"]
    fn all_embedded_images_make_a_good_judge() {
        let (train, test) = embedded();
        let start = std::time::Instant::now();
        let judge = Judge::train(&train, JudgeSettings::default(), |_| ()).unwrap();
        let accuracy = accuracy(&judge, &test);
        println!("{:.1} % of {} test images after {:.1?}", 100.0 * accuracy, test.len(), start.elapsed());
        assert!(accuracy >= 0.87, "{accuracy}");
    }

    #[test]
    fn the_gradient_of_the_loss_agrees_with_finite_differences() {
        let scores = vec![vec![0.3, -0.7, 1.1], vec![2.0, 0.1, -0.4]];
        let labels = [2, 1];
        let (_, gradient) = cross_entropy(&scores, &labels);
        for (index, gradient) in gradient.into_iter().enumerate() {
            let loss = |step: f32| {
                let mut scores = scores.clone();
                scores[index / 3][index % 3] += step;
                cross_entropy(&scores, &labels).0
            };
            let difference = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!((difference - f64::from(gradient)).abs() < 1e-4, "{index}: {difference} {gradient}");
        }
    }

    #[test]
    fn shifts_move_whole_images_and_repeat_the_border() {
        let shape = ImageShape { channels: 1, height: 1, width: 5 };
        let image: Vec<f32> = (0..5u8).map(f32::from).collect();
        let moved = shifted(&image.repeat(50), shape, Stream::new(1, "shift", 0));
        let mut kinds: Vec<_> = moved.chunks(5).map(|image| image.to_vec()).collect();
        kinds.sort_by(|left, right| left.partial_cmp(right).unwrap());
        kinds.dedup();
        let expected = [[0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4]];
        assert_eq!(kinds, expected.map(|image| image.map(|value| value as f32).to_vec()));
    }
}
