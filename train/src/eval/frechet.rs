//! Fréchet distance between two sets of features, each taken as a normal distribution.

use candle_core::Tensor;

use super::symmetric::Symmetric;
use super::{EvalError, Moments, Result};

/// Mean and covariance of a set of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    count: usize,
    mean: Vec<f64>,
    covariance: Symmetric,
}

impl Gaussian {
    /// From the number of images, the mean and the rows of the covariance, one after another.
    ///
    /// # Errors
    /// A covariance of another size, numbers that are not finite, a variance below 0.
    pub fn new(count: usize, mean: Vec<f64>, covariance: &[f64]) -> Result<Self> {
        let size = mean.len();
        if size == 0 || size.checked_mul(size) != Some(covariance.len()) {
            let problem = format!("a mean of {size} numbers with a covariance of {}", covariance.len());
            return Err(EvalError::Samples(format!("Fréchet distance: {problem}")));
        }
        if !covariance.iter().chain(&mean).all(|value| value.is_finite()) {
            return Err(EvalError::Samples("Fréchet distance: features hold NaN or infinite numbers".into()));
        }
        let covariance = Symmetric::new(size, covariance);
        if let Some(at) = covariance.diagonal().position(|variance| variance < 0.0) {
            return Err(EvalError::Samples(format!("Fréchet distance: the variance of feature {at} is below 0")));
        }
        Ok(Self { count, mean, covariance })
    }

    /// Mean and covariance (with n - 1) of features `[n, dimensions]`, in f64.
    ///
    /// # Errors
    /// Fewer than two rows, or numbers that are not finite.
    pub fn of(features: &Tensor) -> Result<Self> {
        let mut moments = Moments::new(features.dims2()?.1)?;
        moments.add(features)?;
        moments.gaussian()
    }

    /// Number of images behind it; 0 where nobody said.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Mean of each feature.
    #[must_use]
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Rows of the covariance, one after another.
    #[must_use]
    pub fn covariance(&self) -> &[f64] {
        self.covariance.rows()
    }
}

/// |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017, equation 6).
///
/// It falls with the number of images on either side even when nothing else changes: compare equal numbers only.
///
/// # Errors
/// Features of different dimensions.
pub fn frechet_distance(left: &Gaussian, right: &Gaussian) -> Result<f64> {
    let (l, r) = (left.mean.len(), right.mean.len());
    if l != r {
        return Err(EvalError::Samples(format!("Fréchet distance: features of {l} and of {r} dimensions")));
    }
    let means: f64 = left.mean.iter().zip(&right.mean).map(|(l, r)| (l - r).powi(2)).sum();
    let cross = left.covariance.factor()?.sandwich(&right.covariance).trace_sqrt()?;
    // Rounding may bring equal sets below 0.
    Ok((means + left.covariance.trace() + right.covariance.trace() - 2.0 * cross).max(0.0))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use drifting_spec::Stream;

    use super::*;

    fn features(count: usize, size: usize, index: u64) -> Tensor {
        let values = Stream::new(1, "features", index).normals(count * size);
        Tensor::from_vec(values, (count, size), &Device::Cpu).unwrap()
    }

    fn distance(left: &Tensor, right: &Tensor) -> f64 {
        frechet_distance(&Gaussian::of(left).unwrap(), &Gaussian::of(right).unwrap()).unwrap()
    }

    #[test]
    fn in_one_dimension_it_is_the_difference_of_means_and_deviations() {
        let left = Tensor::new(&[[0.0f32], [2.0]], &Device::Cpu).unwrap();
        let right = Tensor::new(&[[4.0f32], [10.0]], &Device::Cpu).unwrap();
        // Means 1 and 7, deviations root 2 and 3 root 2.
        assert!((distance(&left, &right) - (36.0 + 8.0)).abs() < 1e-9);
    }

    /// Rotations of random planes, one after another: an orthogonal matrix, its rows in turn.
    fn orthogonal(size: usize) -> Vec<f64> {
        let mut stream = Stream::new(1, "planes", size as u64);
        let mut rows: Vec<f64> = (0..size * size).map(|at| f64::from(u8::from(at / size == at % size))).collect();
        for _ in 0..8 * size {
            let (p, q, angle) = (stream.below(size), stream.below(size), 6.0 * stream.uniform());
            for column in (0..size).filter(|_| p != q) {
                let (upper, lower) = (rows[p * size + column], rows[q * size + column]);
                rows[p * size + column] = angle.cos() * upper - angle.sin() * lower;
                rows[q * size + column] = angle.sin() * upper + angle.cos() * lower;
            }
        }
        rows
    }

    #[test]
    fn covariances_that_share_their_axes_have_a_closed_form() {
        let size = 60;
        let axes = orthogonal(size);
        // The sum over k of variance k * axis k^T axis k.
        let rotated = |variances: &[f64]| -> Vec<f64> {
            let entry = |at: usize| {
                let (i, j) = (at / size, at % size);
                (0..size).map(|k| variances[k] * axes[k * size + i] * axes[k * size + j]).sum()
            };
            (0..size * size).map(entry).collect()
        };
        let mut stream = Stream::new(2, "variances", 0);
        let mut numbers = |scale: f64| -> Vec<f64> { (0..size).map(|_| scale * stream.uniform() + 0.01).collect() };
        let (left, right) = (numbers(2.0), numbers(3.0));
        let means = [numbers(1.0), numbers(1.0)];
        // Features that never vary are part of real networks; a root has half the digits of the rounded 0 that it is of.
        let still: Vec<f64> =
            right.iter().enumerate().map(|(at, &value)| if at % 5 == 0 { 0.0 } else { value }).collect();
        for (right, tolerance) in [(right, 1e-9), (still, 1e-6)] {
            let closed: f64 = (0..size)
                .map(|k| (means[0][k] - means[1][k]).powi(2) + (left[k].sqrt() - right[k].sqrt()).powi(2))
                .sum();
            let left = Gaussian::new(9, means[0].clone(), &rotated(&left)).unwrap();
            let right = Gaussian::new(9, means[1].clone(), &rotated(&right)).unwrap();
            for (left, right) in [(&left, &right), (&right, &left)] {
                let found = frechet_distance(left, right).unwrap();
                assert!((found - closed).abs() < tolerance, "{found} {closed}");
            }
        }
    }

    #[test]
    fn numbers_that_are_no_covariance_are_refused() {
        let message = |covariance: &[f64]| Gaussian::new(9, vec![0.0; 2], covariance).unwrap_err().to_string();
        assert!(message(&[1.0; 3]).contains("a mean of 2 numbers with a covariance of 3"));
        assert!(message(&[1.0, 0.0, 0.0, -1.0]).contains("variance of feature 1 is below 0"));
        assert!(message(&[1.0, 0.0, f64::NAN, 1.0]).contains("NaN"));
    }

    #[test]
    fn equal_sets_have_distance_zero_and_shifts_add_their_square() {
        let left = features(200, 16, 0);
        assert!(distance(&left, &left) < 1e-9);
        let moved = (&left + 0.5).unwrap();
        assert!((distance(&left, &moved) - 16.0 * 0.25).abs() < 1e-5);
        let other = features(300, 16, 1);
        let (there, back) = (distance(&left, &other), distance(&other, &left));
        assert!((there - back).abs() < 1e-9 && there > 0.0, "{there} {back}");
    }

    #[test]
    fn fewer_images_than_dimensions_still_have_a_distance() {
        assert!(distance(&features(5, 16, 0), &features(5, 16, 1)).is_finite());
    }

    /// Run with `--ignored --nocapture` to see the seconds of the size that FID has.
    #[test]
    #[ignore = "takes seconds"]
    fn two_thousand_dimensions_end() {
        let [left, right] = [0, 1].map(|index| Gaussian::of(&features(3000, 2048, index)).unwrap());
        let start = std::time::Instant::now();
        let distance = frechet_distance(&left, &right).unwrap();
        println!("{distance} after {:.1?}", start.elapsed());
        assert!((500.0..3000.0).contains(&distance));
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        assert!(Gaussian::of(&features(1, 4, 0)).is_err());
        assert!(Gaussian::of(&(features(3, 4, 0) / 0.0).unwrap()).is_err());
        let (left, right) = (Gaussian::of(&features(3, 4, 0)).unwrap(), Gaussian::of(&features(3, 5, 0)).unwrap());
        assert!(frechet_distance(&left, &right).is_err());
    }
}
