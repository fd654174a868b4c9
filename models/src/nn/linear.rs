//! The linear layer.

use candle_core::Tensor;

use super::{Builder, Init};
use crate::Result;
use crate::ops::{self, Handover};

/// y = x W^T + b.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Parameters `weight` `[out, in]` and `bias` `[out]`, the bias zero at the start.
    ///
    /// # Errors
    /// As [`Builder::param`].
    pub fn new(builder: &Builder, inner: usize, out: usize, init: Init) -> Result<Self> {
        let weight = builder.param("weight", &[out, inner], init)?;
        Ok(Self { weight, bias: builder.param("bias", &[out], Init::Zeros)? })
    }

    /// `[out, in]`.
    #[must_use]
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[out]`.
    #[must_use]
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// This layer, whose gradients are taken as soon as they are found.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn handing(&self, handover: &Handover) -> Result<Self> {
        let of = |parameter: &Tensor| handover.of(vec![parameter.clone()], parameter);
        Ok(Self { weight: of(&self.weight)?, bias: of(&self.bias)? })
    }

    /// Maps x `[.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// An input of another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::linear(x, &self.weight, &self.bias)?)
    }
}
