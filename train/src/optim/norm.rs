//! The norm of all gradients together.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use drifting_models::ops::kernels;
use rayon::prelude::*;

use super::inplace::{CHUNK, with_slice};
use super::{OptimError, Result, device};

/// L2 norm of all gradients taken as one vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GlobalNorm(pub f64);

impl GlobalNorm {
    /// The factor that brings a larger norm down to `clip`; 1 for a smaller one and without a limit.
    #[must_use]
    pub fn clip_factor(self, clip: Option<f64>) -> f64 {
        match clip {
            Some(clip) if self.0 > clip => clip / self.0,
            _ => 1.0,
        }
    }
}

/// The L2 norm over all gradients, accumulated in f64 in an order that does not depend on threads.
///
/// # Errors
/// A gradient with a number that is not finite, by name.
pub fn global_norm(gradients: &BTreeMap<String, Tensor>) -> Result<GlobalNorm> {
    let sums = match gradients.values().next() {
        Some(first) if !first.device().is_cpu() => device_sums(gradients)?,
        _ => gradients.values().map(square_sum).collect::<Result<_>>()?,
    };
    // Squares of finite f32 cannot overflow an f64: the sum is finite exactly when every number is.
    match gradients.keys().zip(&sums).find(|(_, sum)| !sum.is_finite()) {
        Some((name, _)) => Err(OptimError::NotFinite { name: name.clone() }),
        None => Ok(GlobalNorm(sums.iter().sum::<f64>().sqrt())),
    }
}

/// The sums of the squares of gradients on another device, which waits for the host once.
fn device_sums(gradients: &BTreeMap<String, Tensor>) -> Result<Vec<f64>> {
    let square_sum = |gradient: &Tensor| match kernels(gradient.device()) {
        true => device::square_sum(gradient),
        false => gradient.to_dtype(DType::F64)?.sqr()?.sum_all(),
    };
    let sums = gradients.values().map(square_sum);
    Ok(Tensor::stack(&sums.collect::<candle_core::Result<Vec<_>>>()?, 0)?.to_vec1()?)
}

fn square_sum(tensor: &Tensor) -> Result<f64> {
    let tensor = tensor.contiguous()?;
    Ok(with_slice(&tensor, |values| {
        if values.len() <= CHUNK {
            return chunk_sum(values);
        }
        let sums: Vec<f64> = values.par_chunks(CHUNK).map(chunk_sum).collect();
        sums.iter().sum()
    })?)
}

/// Eight running sums, so that the loop runs in vector registers.
fn chunk_sum(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (blocks, rest) = values.as_chunks::<8>();
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use drifting_spec::Stream;

    use super::*;

    #[test]
    fn many_numbers_give_the_f64_sum_and_the_same_bits_each_time() {
        let values = Stream::new(1, "norm", 0).normals(3 * CHUNK + 5);
        let expected = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() + 25.0;
        let gradients = BTreeMap::from([
            ("a".to_owned(), Tensor::new(values, &Device::Cpu).unwrap()),
            ("b".to_owned(), Tensor::new(&[[3.0f32], [4.0]], &Device::Cpu).unwrap()),
        ]);
        let norm = global_norm(&gradients).unwrap();
        assert!((norm.0 - expected.sqrt()).abs() < 1e-9 * norm.0, "{} {}", norm.0, expected.sqrt());
        for _ in 0..20 {
            assert_eq!(global_norm(&gradients).unwrap().0.to_bits(), norm.0.to_bits());
        }
    }

    #[test]
    fn other_devices_find_the_same_sums() {
        let gradients = ["a", "b"].map(|name| {
            let numbers = Stream::new(1, name, 0).normals(100);
            (name.to_owned(), Tensor::from_vec(numbers, (4, 25), &Device::Cpu).unwrap())
        });
        let gradients = BTreeMap::from(gradients);
        let sum: f64 = device_sums(&gradients).unwrap().iter().sum();
        let expected = global_norm(&gradients).unwrap().0;
        assert!((sum.sqrt() / expected - 1.0).abs() < 1e-12);
        #[cfg(feature = "emulator")]
        drifting_kernels::emulator::emulated(|| {
            let sum: f64 = device_sums(&gradients).unwrap().iter().sum();
            assert!((sum.sqrt() / expected - 1.0).abs() < 1e-12);
        });
    }

    #[test]
    fn only_larger_norms_are_clipped() {
        assert_eq!(GlobalNorm(4.0).clip_factor(Some(2.0)), 0.5);
        assert_eq!(GlobalNorm(1.0).clip_factor(Some(2.0)), 1.0);
        assert_eq!(GlobalNorm(4.0).clip_factor(None), 1.0);
    }

    #[test]
    fn numbers_that_are_not_finite_are_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let gradients = BTreeMap::from([("x.bias".to_owned(), Tensor::new(&[1.0, bad], &Device::Cpu).unwrap())]);
            assert!(matches!(global_norm(&gradients), Err(OptimError::NotFinite { name }) if name == "x.bias"));
        }
    }
}
