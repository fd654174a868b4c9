//! What stands between two linear layers.

use candle_core::{Result, Tensor};
use drifting_models::ops;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// The activation of each number of `x`, any shape.
    ///
    /// # Errors
    /// On the CPU numbers other than f32.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Silu => ops::silu(x),
            Self::Gelu => ops::gelu(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use drifting_spec::Stream;

    use super::*;

    #[test]
    fn values_and_derivatives_are_those_of_candle() {
        let values: Vec<f32> = Stream::new(1, "x", 0).normals(16_424).into_iter().map(|x| 3.0 * x).collect();
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
