//! What stands between two linear layers, in one pass over memory with its derivative.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use drifting_models::ops::Values;
use drifting_models::ops::simd::{Kernel, dispatch_kernel, sigmoid};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::optim::cpu_slice;

/// Numbers of one task.
const CHUNK: usize = 16 * 1024;

/// What stands between two linear layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x sigmoid(x) (authors' notebook).
    #[default]
    Silu,
    /// x Phi(x), exact (seed documents).
    Gelu,
}

impl Activation {
    /// The activation of each number of `x`, any shape, on the CPU.
    ///
    /// # Errors
    /// A tensor that is not f32 or on another device.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Activate(self))
    }
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu_slice(storage, layout)?;
        let mut out = x.to_vec();
        out.par_chunks_mut(CHUNK).for_each(|x| dispatch_kernel(Forward(self.0, x)));
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        let (values, slopes) = (Values::of(x)?, Values::of(&gradient)?);
        let mut out = slopes.to_vec();
        let chunks = out.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK));
        chunks.for_each(|(gradient, x)| dispatch_kernel(Backward(self.0, x, gradient)));
        Ok(Some(Tensor::from_vec(out, x.shape(), x.device())?))
    }
}

/// Replaces each x by its activation.
struct Forward<'a>(Activation, &'a mut [f32]);

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.0 {
            Activation::Silu => self.1.iter_mut().for_each(|x| *x *= sigmoid(*x)),
            Activation::Gelu => self.1.iter_mut().for_each(|x| *x *= normal_share(*x)),
        }
    }
}

/// Multiplies each gradient by the derivative at x.
struct Backward<'a>(Activation, &'a [f32], &'a mut [f32]);

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(activation, x, gradient) = self;
        let pairs = gradient.iter_mut().zip(x);
        match activation {
            Activation::Silu => pairs.for_each(|(gradient, &x)| {
                let share = sigmoid(x);
                *gradient *= share * (1.0 + x * (1.0 - share));
            }),
            Activation::Gelu => pairs.for_each(|(gradient, &x)| {
                let density = libm::expf(-0.5 * x * x)
                    * (0.5 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2);
                *gradient *= normal_share(x) + x * density;
            }),
        }
    }
}

/// Phi(x), the share of a normal distribution below x.
#[inline(always)]
fn normal_share(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use drifting_spec::Stream;

    use super::*;

    #[test]
    fn values_and_derivatives_are_those_of_candle() {
        let values: Vec<f32> = Stream::new(1, "x", 0).normals(CHUNK + 40).into_iter().map(|x| 3.0 * x).collect();
        let x = Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap();
        let plain = |activation, x: &Tensor| match activation {
            Activation::Silu => x.silu(),
            Activation::Gelu => x.gelu_erf(),
        };
        for activation in [Activation::Silu, Activation::Gelu] {
            let (found, expected) = (activation.forward(&x).unwrap(), plain(activation, &x).unwrap());
            let slope = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
            for (found, expected) in [(&found, &expected), (&slope(&found), &slope(&expected))] {
                let difference =
                    (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(difference < 2e-5, "{activation:?}: {difference}");
            }
        }
    }
}
