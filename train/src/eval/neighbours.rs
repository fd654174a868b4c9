//! The training images that generated ones are most like: has the generator learned, or copied?

use candle_core::{D, DType, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::bootstrap::percentile;
use super::rows::products;
use super::{EvalError, Result};

/// Training images that are told for a generated one.
const NEAREST: usize = 3;
/// Generated images that are told, the most alike first.
const TOLD: usize = 10;
/// Share of held-out real images that are nearer to a training image than the rest of them: what looks like a copy.
const COPY: f64 = 0.99;
/// Similarities in memory at once.
const AT_ONCE: usize = 1 << 23;

/// What the nearest training images say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Mean cosine similarity of a generated image to its nearest training image.
    pub similarity: f64,
    /// The same of held-out real images.
    pub real_similarity: f64,
    /// The similarity that 1 % of the held-out real images reach.
    pub threshold: f64,
    /// Share of the generated images that lie above `threshold`. 0.01 is what new images of the same kind have; much more
    /// means that training images, or images very near to them, come back.
    pub copies: f64,
    /// The generated images that are most like a training image.
    pub nearest: Vec<Neighbour>,
}

/// A generated image and its nearest training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Number of the generated image.
    pub image: usize,
    /// Numbers of the training images, the nearest first.
    pub training: Vec<usize>,
    /// Their cosine similarities.
    pub similarity: Vec<f64>,
}

/// Nearest training images by the cosine of features `[n, d]` (method section 13) of generated images, which have these
/// numbers, and of held-out real ones.
///
/// # Errors
/// Features of different lengths or that are not finite, no images.
pub fn neighbours(generated: &Tensor, numbers: &[usize], [training, held_out]: [&Tensor; 2]) -> Result<Neighbours> {
    let training = unit(training)?;
    let mut found = nearest(generated, &training)?;
    for (found, number) in found.iter_mut().zip(numbers) {
        found.image = *number;
    }
    let best = |found: &[Neighbour]| -> Vec<f64> {
        found.iter().filter_map(|found| found.similarity.first().copied()).collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (ours, mut real) = (best(&found), best(&nearest(held_out, &training)?));
    let real_similarity = mean(&real);
    real.sort_by(f64::total_cmp);
    let threshold = percentile(&real, COPY);
    let copies = ours.iter().filter(|similarity| **similarity > threshold).count() as f64 / ours.len() as f64;
    let mut told = found;
    told.sort_by(|left, right| f64::total_cmp(&right.similarity[0], &left.similarity[0]));
    told.truncate(TOLD);
    Ok(Neighbours { similarity: mean(&ours), real_similarity, threshold, copies, nearest: told })
}

/// Rows of length 1; rows of zeros stay.
fn unit(features: &Tensor) -> Result<Tensor> {
    let features = features.to_dtype(DType::F32)?;
    let lengths = features.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.clamp(f32::MIN_POSITIVE, f32::MAX)?;
    Ok(features.broadcast_div(&lengths)?)
}

fn nearest(images: &Tensor, training: &Tensor) -> Result<Vec<Neighbour>> {
    let ((count, size), (width, other)) = (images.dims2()?, training.dims2()?);
    if size != other || count == 0 || width == 0 {
        let problem = format!("{count} images with {size} features, {width} training images with {other}");
        return Err(EvalError::Samples(format!("neighbours: {problem}")));
    }
    let images = unit(images)?;
    let rows = (AT_ONCE / width).clamp(1, count);
    let mut found = Vec::with_capacity(count);
    for first in (0..count).step_by(rows) {
        let part = images.narrow(0, first, rows.min(count - first))?;
        let values = products(&part, training)?.flatten_all()?.to_vec1::<f32>()?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(EvalError::Samples("neighbours: features hold NaN or infinite numbers".into()));
        }
        let rows = values.par_chunks(width).enumerate();
        found.par_extend(rows.map(|(row, similarities)| best(first + row, similarities)));
    }
    Ok(found)
}

/// The largest similarities; of equal ones the first.
fn best(image: usize, similarities: &[f32]) -> Neighbour {
    let mut best: Vec<(usize, f32)> = Vec::with_capacity(NEAREST + 1);
    for (at, &similarity) in similarities.iter().enumerate() {
        let place = best.partition_point(|(_, other)| *other >= similarity);
        if place < NEAREST {
            best.insert(place, (at, similarity));
            best.truncate(NEAREST);
        }
    }
    let (training, similarity) = best.into_iter().map(|(at, similarity)| (at, f64::from(similarity))).unzip();
    Neighbour { image, training, similarity }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use drifting_spec::Stream;

    use super::*;

    fn features(count: usize, index: u64) -> Tensor {
        let values = Stream::new(1, "features", index).normals(count * 16);
        Tensor::from_vec(values, (count, 16), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_nearest_have_the_smallest_angle() {
        let training = Tensor::new(&[[1f32, 0.0], [3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]], &Device::Cpu).unwrap();
        let images = Tensor::new(&[[0f32, 9.0]], &Device::Cpu).unwrap();
        let found = nearest(&images, &unit(&training).unwrap()).unwrap();
        assert_eq!((found[0].image, &found[0].training[..]), (0, &[2, 1, 0][..]));
        let worst = found[0].similarity.iter().zip([1.0, 0.8, 0.0]).map(|(l, r)| (l - r).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-6, "{found:?}");
    }

    #[test]
    fn new_images_are_no_copies_and_copies_are() {
        let (training, held_out) = (features(2000, 0), features(1000, 1));
        let numbers: Vec<usize> = (0..1000).collect();
        let fresh = neighbours(&features(1000, 2), &numbers, [&training, &held_out]).unwrap();
        assert!(fresh.copies < 0.03 && (fresh.similarity - fresh.real_similarity).abs() < 0.01, "{fresh:?}");
        // Every second image is a training image, a little brighter.
        let copies = (training.narrow(0, 100, 500).unwrap() * 1.1).unwrap();
        let mixed = Tensor::cat(&[features(500, 2), copies], 0).unwrap();
        let mixed = neighbours(&mixed, &numbers, [&training, &held_out]).unwrap();
        assert!((mixed.copies - 0.5).abs() < 0.02, "{mixed:?}");
        assert_eq!(mixed.nearest.len(), TOLD);
        assert!(mixed.nearest.iter().all(|found| found.training[0] == found.image - 400), "{mixed:?}");
    }

    #[test]
    fn blank_features_are_like_nothing_and_broken_ones_an_error() {
        let blank = Tensor::zeros((3, 16), DType::F32, &Device::Cpu).unwrap();
        let found = |generated: &Tensor| neighbours(generated, &[0, 1, 2], [&features(9, 0), &features(9, 1)]);
        assert_eq!(found(&blank).unwrap().similarity, 0.0);
        assert!(found(&(blank / 0.0).unwrap()).is_err());
        assert!(found(&features(0, 0)).is_err());
    }
}
