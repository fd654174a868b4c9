//! Kernel Inception Distance: how far apart two sets of features are, without assuming a normal distribution.

use candle_core::{DType, Device, Tensor};
use drifting_spec::Stream;

use super::rows::{mean_and_deviation, products};
use super::{EvalError, Result, Spread};

/// Subsets that are compared.
pub const KID_SUBSETS: usize = 100;
/// Images of a subset, or as many as the smaller set has.
pub const KID_IMAGES: usize = 1000;

/// Mean and deviation over [`KID_SUBSETS`] random subsets of the unbiased squared maximum mean discrepancy with the kernel
/// (x y / d + 1)^3 of features `[n, d]` (Bińkowski et al. 2018, section 4). It may be below 0. The subsets follow from
/// `seed` and the numbers of images.
///
/// # Errors
/// Features of different lengths, or fewer than two images on a side.
pub fn kernel_distance(generated: &Tensor, real: &Tensor, seed: u64) -> Result<Spread> {
    let ((left, size), (right, other)) = (generated.dims2()?, real.dims2()?);
    if size != other || size == 0 || left.min(right) < 2 {
        let problem = format!("{left} images with {size} features, {right} with {other}");
        return Err(EvalError::Samples(format!("KID: {problem}; expected at least 2 of each with as many features")));
    }
    let images = left.min(right).min(KID_IMAGES);
    let subset = |features: &Tensor, name: &str, index: u64| -> Result<Tensor> {
        let rows = Stream::new(seed, name, index).choose(features.dim(0)?, images);
        let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
        Ok(features.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?.to_dtype(DType::F64)?)
    };
    let one = |index| {
        let generated = subset(generated, "kid.generated", index)?;
        discrepancy(&generated, &subset(real, "kid.real", index)?)
    };
    let found = (0..KID_SUBSETS as u64).map(one).collect::<Result<Vec<_>>>()?;
    Ok(mean_and_deviation(&found))
}

/// The unbiased estimate between as many features, `[m, d]` each.
fn discrepancy(left: &Tensor, right: &Tensor) -> Result<f64> {
    let (count, size) = left.dims2()?;
    let kernel = |left: &Tensor, right: &Tensor| -> Result<Vec<f64>> {
        let values = products(left, right)?.flatten_all()?.to_vec1::<f64>()?;
        Ok(values.into_iter().map(|product| (product / size as f64 + 1.0).powi(3)).collect())
    };
    let apart = |kernel: Vec<f64>| {
        let diagonal: f64 = kernel.iter().step_by(count + 1).sum();
        (kernel.iter().sum::<f64>() - diagonal) / (count * (count - 1)) as f64
    };
    let between = kernel(left, right)?.iter().sum::<f64>() / (count * count) as f64;
    Ok(apart(kernel(left, left)?) + apart(kernel(right, right)?) - 2.0 * between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(count: usize, size: usize, index: u64) -> Tensor {
        let values = Stream::new(1, "features", index).normals(count * size);
        Tensor::from_vec(values, (count, size), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_small_discrepancy_is_that_of_paper_and_pencil() {
        let set = |values: [f64; 2]| Tensor::new(&[[values[0]], [values[1]]], &Device::Cpu).unwrap();
        // Kernels: (0 * 1 + 1)^3 = 1 within; (2 * 3 + 1)^3 = 343 within; 1, 1, 27, 64 between.
        let found = discrepancy(&set([0.0, 1.0]), &set([2.0, 3.0])).unwrap();
        assert!((found - (1.0 + 343.0 - 2.0 * 93.0 / 4.0)).abs() < 1e-12, "{found}");
    }

    #[test]
    fn equal_distributions_are_near_zero_and_others_are_not() {
        let (left, right) = (features(600, 8, 0), features(700, 8, 1));
        let same = kernel_distance(&left, &right, 5).unwrap();
        let moved = kernel_distance(&(&left + 0.5).unwrap(), &right, 5).unwrap();
        assert!(same.value.abs() < 0.01 && same.deviation > 0.0, "{same:?}");
        assert!(moved.value > 10.0 * same.value.abs(), "{same:?} {moved:?}");
        assert_eq!(kernel_distance(&left, &right, 5).unwrap(), same);
        assert_ne!(kernel_distance(&left, &right, 6).unwrap(), same);
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        assert!(kernel_distance(&features(1, 4, 0), &features(3, 4, 1), 0).is_err());
        assert!(kernel_distance(&features(3, 5, 0), &features(3, 4, 1), 0).is_err());
    }
}
