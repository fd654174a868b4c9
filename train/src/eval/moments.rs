//! Mean and covariance of features that come in batches.

use candle_core::{DType, Tensor};

use super::{EvalError, Gaussian, Result};

/// Count, mean and sum of the centred squares of the features seen so far, in f64: what a [`Gaussian`] needs, and no row
/// of them.
///
/// Each batch is centred on its own mean and then merged (Chan, Golub and LeVeque 1979), so that features far from 0 keep
/// their digits.
#[derive(Clone, Debug)]
pub struct Moments {
    count: usize,
    mean: Tensor,
    /// `[features, features]`: the sum over rows of (row - mean)^T (row - mean).
    squares: Tensor,
}

impl Moments {
    /// No features of this length yet.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn new(features: usize) -> Result<Self> {
        let device = candle_core::Device::Cpu;
        let mean = Tensor::zeros((1, features), DType::F64, &device)?;
        Ok(Self { count: 0, mean, squares: Tensor::zeros((features, features), DType::F64, &device)? })
    }

    /// One that has seen nothing, for features of the same length.
    pub(super) fn emptied(&self) -> Result<Self> {
        Self::new(self.mean.dim(1)?)
    }

    /// Number of rows seen.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds features `[rows, features]`.
    ///
    /// # Errors
    /// Features of another length.
    pub fn add(&mut self, features: &Tensor) -> Result<()> {
        let (rows, size) = features.dims2()?;
        let expected = self.mean.dim(1)?;
        if size != expected {
            return Err(EvalError::Samples(format!("moments: {size} features, expected {expected}")));
        }
        if rows == 0 {
            return Ok(());
        }
        let features = features.to_dtype(DType::F64)?;
        let mean = features.mean_keepdim(0)?;
        let centred = features.broadcast_sub(&mean)?;
        let squares = centred.t()?.contiguous()?.matmul(&centred)?;
        self.merge(&Self { count: rows, mean, squares })
    }

    /// Adds what another one has seen.
    ///
    /// # Errors
    /// Features of another length.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if other.count == 0 {
            return Ok(());
        }
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        let apart = (&other.mean - &self.mean)?;
        let between = (apart.t()?.contiguous()?.matmul(&apart)? * (self.count as f64 * share))?;
        self.squares = ((&self.squares + &other.squares)? + between)?;
        self.mean = (&self.mean + (apart * share)?)?;
        self.count = count;
        Ok(())
    }

    /// Mean and covariance (with n - 1).
    ///
    /// # Errors
    /// Fewer than two rows, no features, or features that are not finite.
    pub fn gaussian(&self) -> Result<Gaussian> {
        let (count, size) = (self.count, self.mean.dim(1)?);
        if count < 2 || size == 0 {
            let problem = format!("Fréchet distance: {count} images with {size} features, expected at least 2 with 1");
            return Err(EvalError::Samples(problem));
        }
        let covariance = (&self.squares / (count - 1) as f64)?;
        let rows = covariance.flatten_all()?.to_vec1::<f64>()?;
        Gaussian::new(count, self.mean.flatten_all()?.to_vec1()?, &rows)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use drifting_spec::Stream;

    use super::*;

    fn features(count: usize, size: usize, shift: f64) -> Tensor {
        let mut stream = Stream::new(1, "moments", 0);
        let values: Vec<f64> = (0..count * size).map(|at| stream.normal() * (1 + at % size) as f64 + shift).collect();
        Tensor::from_vec(values, (count, size), &Device::Cpu).unwrap()
    }

    fn batched(features: &Tensor, batch: usize) -> Moments {
        let count = features.dim(0).unwrap();
        let mut moments = Moments::new(features.dim(1).unwrap()).unwrap();
        for first in (0..count).step_by(batch) {
            moments.add(&features.narrow(0, first, batch.min(count - first)).unwrap()).unwrap();
        }
        moments
    }

    fn worst(left: &[f64], right: &[f64]) -> f64 {
        left.iter().zip(right).map(|(l, r)| (l - r).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn batches_of_any_size_give_the_two_passes_of_a_textbook() {
        // Far from 0: a sum of squares would have lost ten of its sixteen digits.
        let (count, size, shift) = (57, 5, 1e5);
        let rows: Vec<Vec<f64>> = features(count, size, shift).to_vec2().unwrap();
        let mean: Vec<f64> = (0..size).map(|j| rows.iter().map(|row| row[j]).sum::<f64>() / count as f64).collect();
        let entry = |i: usize, j: usize| rows.iter().map(|row| (row[i] - mean[i]) * (row[j] - mean[j])).sum::<f64>();
        let covariance: Vec<f64> =
            (0..size * size).map(|at| entry(at / size, at % size) / (count - 1) as f64).collect();
        for batch in [1, 8, 57] {
            let found = batched(&features(count, size, shift), batch).gaussian().unwrap();
            assert_eq!(found.count(), count);
            assert!(worst(found.mean(), &mean) < 1e-9, "{batch}");
            assert!(worst(found.covariance(), &covariance) < 1e-8, "{batch}");
        }
    }

    #[test]
    fn parts_that_are_merged_are_the_whole() {
        let all = features(40, 4, 3.0);
        let whole = batched(&all, 40).gaussian().unwrap();
        let mut merged = batched(&all.narrow(0, 0, 13).unwrap(), 5);
        merged.merge(&Moments::new(4).unwrap()).unwrap();
        merged.merge(&batched(&all.narrow(0, 13, 27).unwrap(), 6)).unwrap();
        let merged = merged.gaussian().unwrap();
        assert!(worst(merged.mean(), whole.mean()) < 1e-12);
        assert!(worst(merged.covariance(), whole.covariance()) < 1e-11);
    }

    #[test]
    fn what_has_no_covariance_is_an_error() {
        let mut moments = batched(&features(1, 4, 0.0), 1);
        assert!(moments.gaussian().unwrap_err().to_string().contains("1 images with 4 features"));
        assert_eq!(moments.add(&features(3, 5, 0.0)).unwrap_err().to_string(), "moments: 5 features, expected 4");
        moments.add(&(features(3, 4, 0.0) / 0.0).unwrap()).unwrap();
        assert!(moments.gaussian().unwrap_err().to_string().contains("NaN or infinite"));
    }
}
