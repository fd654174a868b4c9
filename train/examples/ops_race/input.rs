//! Inputs: numbers that depend on nothing but their name.

use candle_core::{Device, Tensor};
use drifting_spec::Stream;
use rayon::prelude::*;

/// Numbers of one stream.
const CHUNK: usize = 1 << 16;

/// A named input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    shape: Vec<usize>,
    fill: Fill,
}

#[derive(Clone, Debug)]
enum Fill {
    /// Independent normal numbers.
    Normal { mean: f32, spread: f32 },
    /// This number and its opposite in turn.
    Signs(f32),
    /// Whole numbers below this.
    Below(usize),
    /// Other inputs, flat, one after the other.
    Joined(Vec<Input>),
}

impl Input {
    /// Normal numbers of mean 0.
    pub(crate) fn normal(name: &str, shape: &[usize], spread: f32) -> Self {
        Self::new(name, shape, Fill::Normal { mean: 0.0, spread })
    }

    /// Normal numbers about a mean, with a tenth of it as deviation.
    pub(crate) fn about(name: &str, shape: &[usize], mean: f32) -> Self {
        Self::new(name, shape, Fill::Normal { mean, spread: mean / 10.0 })
    }

    /// `size` and -`size` in turn: biases that keep what they are added to away from the kink of a ReLU, on the other side
    /// of which rounding could throw one program and not the other.
    pub(crate) fn signs(name: &str, shape: &[usize], size: f32) -> Self {
        Self::new(name, shape, Fill::Signs(size))
    }

    pub(crate) fn below(name: &str, shape: &[usize], bound: usize) -> Self {
        Self::new(name, shape, Fill::Below(bound))
    }

    pub(crate) fn joined(name: &str, parts: Vec<Self>) -> Self {
        let len = parts.iter().map(Self::len).sum();
        Self::new(name, &[len], Fill::Joined(parts))
    }

    fn new(name: &str, shape: &[usize], fill: Fill) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), fill }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn is_index(&self) -> bool {
        matches!(self.fill, Fill::Below(_))
    }

    pub(crate) fn tensor(&self) -> Tensor {
        if let Fill::Below(bound) = self.fill {
            // Neighbours lie far apart.
            let values: Vec<i64> = (0..self.len()).map(|i| (i * 7919 % bound) as i64).collect();
            return Tensor::from_vec(values, &self.shape[..], &Device::Cpu).unwrap();
        }
        Tensor::from_vec(self.values(), &self.shape[..], &Device::Cpu).unwrap()
    }

    fn values(&self) -> Vec<f32> {
        match &self.fill {
            Fill::Normal { mean, spread } => {
                let mut values = vec![0.0; self.len()];
                values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
                    let mut stream = Stream::new(1, &self.name, chunk as u64);
                    values.iter_mut().for_each(|value| *value = mean + spread * stream.normal() as f32);
                });
                values
            }
            Fill::Signs(size) => (0..self.len()).map(|i| if i % 2 == 0 { *size } else { -size }).collect(),
            Fill::Below(_) => Vec::new(),
            Fill::Joined(parts) => parts.iter().flat_map(Self::values).collect(),
        }
    }
}
