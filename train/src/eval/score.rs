//! Inception Score: are images clearly something, and together of many kinds?

use candle_core::{D, DType, Tensor};
use drifting_spec::Stream;

use super::rows::mean_and_deviation;
use super::{EvalError, Result, Spread};

/// Parts that the score is taken of.
pub const SCORE_SPLITS: usize = 10;
/// Added to probabilities before the logarithm.
const EPSILON: f64 = 1e-10;

/// exp of the mean divergence of each image's class probabilities from those of all images, by parts (Salimans et al. 2016;
/// method section 13). The order in which images are dealt to parts follows from the seed; logits are not kept.
#[derive(Debug)]
pub struct InceptionScore {
    /// The part of each image that is to come.
    parts: Vec<usize>,
    seen: usize,
    sums: Vec<Sum>,
}

#[derive(Clone, Debug)]
struct Sum {
    images: usize,
    /// Sum over images of the probability of each class.
    probabilities: Vec<f64>,
    /// Sum over images and classes of p log p.
    logarithms: f64,
}

impl InceptionScore {
    /// Of `images` images with logits of `classes` classes.
    ///
    /// # Errors
    /// Fewer images than parts.
    pub fn new(images: usize, classes: usize, seed: u64) -> Result<Self> {
        if images < SCORE_SPLITS {
            let problem = format!("Inception Score: {images} images, expected at least {SCORE_SPLITS}");
            return Err(EvalError::Samples(problem));
        }
        let mut parts = vec![0; images];
        for (place, image) in Stream::new(seed, "inception.score", 0).choose(images, images).into_iter().enumerate() {
            // Part s holds the places from s n / 10 up to (s + 1) n / 10, each rounded down.
            parts[image] = ((place + 1) * SCORE_SPLITS - 1) / images;
        }
        let empty = Sum { images: 0, probabilities: vec![0.0; classes], logarithms: 0.0 };
        Ok(Self { parts, seen: 0, sums: vec![empty; SCORE_SPLITS] })
    }

    /// Adds the logits `[n, classes]` of the next images.
    ///
    /// # Errors
    /// Logits of other classes, or of more images than were announced.
    pub fn add(&mut self, logits: &Tensor) -> Result<()> {
        let (count, classes) = logits.dims2()?;
        let parts = self.parts.get(self.seen..self.seen + count);
        let Some(parts) = parts.filter(|_| classes == self.sums[0].probabilities.len()) else {
            let problem = format!("{count} more images with {classes} logits than were announced");
            return Err(EvalError::Samples(format!("Inception Score: {problem}")));
        };
        let rows: Vec<Vec<f64>> = softmax(logits)?.to_vec2()?;
        for (row, &part) in rows.iter().zip(parts) {
            let sum = &mut self.sums[part];
            sum.images += 1;
            for (total, p) in sum.probabilities.iter_mut().zip(row) {
                *total += p;
                sum.logarithms += p * (p + EPSILON).ln();
            }
        }
        self.seen += count;
        Ok(())
    }

    /// Mean and deviation over the parts.
    ///
    /// # Errors
    /// Fewer images than were announced, or logits that are not finite.
    pub fn finish(&self) -> Result<Spread> {
        if self.seen != self.parts.len() {
            let problem = format!("{} images of {} were seen", self.seen, self.parts.len());
            return Err(EvalError::Samples(format!("Inception Score: {problem}")));
        }
        let score = |sum: &Sum| {
            let images = sum.images as f64;
            let mean = sum.probabilities.iter().map(|total| total / images);
            (sum.logarithms / images - mean.map(|q| q * (q + EPSILON).ln()).sum::<f64>()).exp()
        };
        let found = mean_and_deviation(&self.sums.iter().map(score).collect::<Vec<_>>());
        if found.value.is_finite() {
            return Ok(found);
        }
        Err(EvalError::Samples("Inception Score: logits hold NaN or infinite numbers".into()))
    }
}

/// Probabilities in f64.
fn softmax(logits: &Tensor) -> Result<Tensor> {
    let logits = logits.to_dtype(DType::F64)?;
    let powers = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn score(logits: &[Vec<f32>], batch: usize) -> Result<Spread> {
        let mut score = InceptionScore::new(logits.len(), logits[0].len(), 2020)?;
        for rows in logits.chunks(batch) {
            score.add(&Tensor::new(rows.to_vec(), &Device::Cpu)?)?;
        }
        score.finish()
    }

    fn sure(count: usize, classes: usize) -> Vec<Vec<f32>> {
        let row = |image: usize| (0..classes).map(|class| if image % classes == class { 40.0 } else { 0.0 }).collect();
        (0..count).map(row).collect()
    }

    #[test]
    fn sure_images_of_every_class_score_the_number_of_classes_and_unsure_ones_score_one() {
        let many = score(&sure(4000, 4), 64).unwrap();
        assert!((many.value - 4.0).abs() < 0.02 && many.deviation < 0.02, "{many:?}");
        for alike in [vec![vec![0.0; 4]; 50], vec![vec![40.0, 0.0, 0.0, 0.0]; 50]] {
            let found = score(&alike, 7).unwrap();
            assert!((found.value - 1.0).abs() < 1e-8 && found.deviation < 1e-8, "{found:?}");
        }
    }

    #[test]
    fn parts_are_of_equal_size_within_one_and_batches_do_not_matter() {
        for images in [10, 19, 103] {
            let parts = InceptionScore::new(images, 2, 1).unwrap().parts;
            for part in 0..SCORE_SPLITS {
                let expected = (part + 1) * images / SCORE_SPLITS - part * images / SCORE_SPLITS;
                assert_eq!(parts.iter().filter(|&&of| of == part).count(), expected, "{images} {part}");
            }
        }
        let logits = sure(103, 3);
        let (one, all) = (score(&logits, 1).unwrap(), score(&logits, 103).unwrap());
        assert_eq!(one, all);
    }

    #[test]
    fn what_has_no_score_is_an_error() {
        assert!(InceptionScore::new(9, 4, 0).unwrap_err().to_string().contains("9 images, expected at least 10"));
        assert!(score(&vec![vec![f32::NAN; 3]; 20], 5).is_err());
        let mut short = InceptionScore::new(10, 3, 0).unwrap();
        assert!(short.finish().unwrap_err().to_string().contains("0 images of 10"));
        assert!(short.add(&Tensor::zeros((11, 3), DType::F32, &Device::Cpu).unwrap()).is_err());
        assert!(short.add(&Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap()).is_err());
    }
}
