//! Fréchet distance between two sets of features, each taken as a normal distribution.

use candle_core::{DType, Tensor};

use super::symmetric::Symmetric;
use super::{EvalError, Result};

/// Mean and covariance of a set of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    count: usize,
    mean: Vec<f64>,
    covariance: Symmetric,
}

impl Gaussian {
    /// Mean and covariance (with n - 1) of features `[n, dimensions]`, in f64.
    ///
    /// # Errors
    /// Fewer than two rows, or numbers that are not finite.
    pub fn of(features: &Tensor) -> Result<Self> {
        let (count, size) = features.dims2()?;
        if count < 2 || size == 0 {
            let problem = format!("Fréchet distance: {count} images with {size} features, expected at least 2 with 1");
            return Err(EvalError::Samples(problem));
        }
        let features = features.to_dtype(DType::F64)?;
        let mean = features.mean_keepdim(0)?;
        let centred = features.broadcast_sub(&mean)?;
        let covariance = (centred.t()?.contiguous()?.matmul(&centred)? / (count - 1) as f64)?;
        let (mean, rows) = (mean.flatten_all()?.to_vec1::<f64>()?, covariance.flatten_all()?.to_vec1::<f64>()?);
        if !rows.iter().chain(&mean).all(|value| value.is_finite()) {
            return Err(EvalError::Samples("Fréchet distance: features hold NaN or infinite numbers".into()));
        }
        Ok(Self { count, mean, covariance: Symmetric::new(size, &rows) })
    }

    /// Number of images behind it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
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
    let cross = left.covariance.sqrt()?.sandwich(&right.covariance).trace_sqrt()?;
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

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        assert!(Gaussian::of(&features(1, 4, 0)).is_err());
        assert!(Gaussian::of(&(features(3, 4, 0) / 0.0).unwrap()).is_err());
        let (left, right) = (Gaussian::of(&features(3, 4, 0)).unwrap(), Gaussian::of(&features(3, 5, 0)).unwrap());
        assert!(frechet_distance(&left, &right).is_err());
    }
}
