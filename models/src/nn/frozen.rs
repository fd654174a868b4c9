//! Layers with the fixed weights of published networks: PyTorch's names and layouts in the file, channels last inside.
//!
//! They expect a [`Builder::frozen`], so that a backward pass reaches the input and computes no gradient of the weights.

use candle_core::{DType, Tensor};

use super::{Builder, Init, Source};
use crate::ops::{self, Conv, GroupNorm, Padding};
use crate::{Error, Result};

/// A square convolution's shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    side: usize,
    inner: usize,
    out: usize,
    bias: bool,
    conv: Conv,
}

impl Kernel {
    /// `inner` to `out` channels by a square of odd `side`, padded so that rows and columns stay; with a bias.
    pub(crate) fn new(side: usize, inner: usize, out: usize) -> Self {
        let conv = Conv::new(1, side / 2);
        Self { side, inner, out, bias: true, conv }
    }

    /// Squares of `side` that neither overlap nor leave anything out.
    pub(crate) fn patches(side: usize, inner: usize, out: usize) -> Self {
        Self { side, inner, out, bias: true, conv: Conv::new(side, 0) }
    }

    /// Only every `stride`-th row and column of the result.
    pub(crate) fn stride(mut self, stride: usize) -> Self {
        self.conv.stride = stride;
        self
    }

    /// Other zeros around the input.
    pub(crate) fn padding(mut self, padding: Padding) -> Self {
        self.conv.padding = padding;
        self
    }

    /// Each channel by a square of its own.
    pub(crate) fn depthwise(mut self) -> Self {
        self.conv.groups = self.inner;
        self
    }

    /// No bias.
    pub(crate) fn unbiased(mut self) -> Self {
        self.bias = false;
        self
    }
}

/// A convolution over `[n, h, w, in]`.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    /// `[side, side, in / groups, out]`.
    weight: Tensor,
    bias: Option<Tensor>,
    conv: Conv,
}

impl Convolution {
    /// Takes `weight` `[out, in / groups, side, side]` and `bias` `[out]`.
    ///
    /// # Errors
    /// As [`Builder::param`].
    pub(crate) fn new(builder: &Builder, kernel: Kernel) -> Result<Self> {
        let Kernel { side, inner, out, bias, conv } = kernel;
        let inner = inner / conv.groups;
        let init = Init::LeCun { fan_in: inner * side * side };
        let weight = builder.param("weight", &[out, inner, side, side], init)?;
        let bias = bias.then(|| builder.param("bias", &[out], Init::Zeros)).transpose()?;
        Self::of(&weight, bias, conv)
    }

    /// A linear layer as a 1x1 convolution: takes `weight` `[out, in]` and `bias` `[out]`.
    ///
    /// # Errors
    /// As [`Builder::param`].
    pub(crate) fn linear(builder: &Builder, inner: usize, out: usize) -> Result<Self> {
        let weight = builder.param("weight", &[out, inner], Init::LeCun { fan_in: inner })?;
        let bias = builder.param("bias", &[out], Init::Zeros)?;
        Self::dense(&weight, bias)
    }

    /// A 1x1 convolution of a matrix `[out, in]`.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub(crate) fn dense(weight: &Tensor, bias: Tensor) -> Result<Self> {
        Self::of(&weight.unsqueeze(2)?.unsqueeze(3)?, Some(bias), Conv::new(1, 0))
    }

    /// From a weight `[out, in / groups, side, side]`.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub(crate) fn of(weight: &Tensor, bias: Option<Tensor>, conv: Conv) -> Result<Self> {
        Ok(Self { weight: weight.permute((2, 3, 1, 0))?.contiguous()?, bias, conv })
    }

    /// `[n, h, w, in]` to `[n, h', w', out]`.
    ///
    /// # Errors
    /// An input of other channels or smaller than the square.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::conv2d(x, &self.weight, self.bias.as_ref(), self.conv)?)
    }
}

/// Without the counts of batches that PyTorch keeps with its batch normalisations.
pub(crate) fn without_counters(source: Source) -> Source {
    match source {
        Source::Tensors(mut tensors) => {
            tensors.retain(|name, _| !name.ends_with(".num_batches_tracked"));
            Source::Tensors(tensors)
        }
        seed @ Source::Seed(_) => seed,
    }
}

/// Weight `[out, ..]` and bias `[out]` of a convolution without bias and the batch normalisation behind it, as one.
///
/// # Errors
/// As [`Builder::param`].
pub(crate) fn folded(conv: &Builder, norm: &Builder, shape: &[usize], eps: f64) -> Result<(Tensor, Tensor)> {
    let (out, fan_in) = (shape[0], shape[1..].iter().product());
    let weight = conv.param("weight", shape, Init::LeCun { fan_in })?.to_dtype(DType::F64)?;
    let vector = |name, init| Ok::<_, Error>(norm.param(name, &[out], init)?.to_dtype(DType::F64)?);
    let (scale, shift) = (vector("weight", Init::Ones)?, vector("bias", Init::Zeros)?);
    let (mean, variance) = (vector("running_mean", Init::Zeros)?, vector("running_var", Init::Ones)?);
    let scale = (scale / (variance + eps)?.sqrt()?)?;
    let bias = (shift - (mean * &scale)?)?.to_dtype(DType::F32)?;
    let weight = weight.flatten_from(1)?.broadcast_mul(&scale.unsqueeze(1)?)?.to_dtype(DType::F32)?;
    Ok((weight.reshape(shape)?, bias))
}

/// Learned scale and shift `[channels]`, taken as `weight` and `bias`.
#[derive(Clone, Debug)]
pub(crate) struct Affine {
    scale: Tensor,
    shift: Tensor,
}

impl Affine {
    /// # Errors
    /// As [`Builder::param`].
    pub(crate) fn new(builder: &Builder, channels: usize) -> Result<Self> {
        let scale = builder.param("weight", &[channels], Init::Ones)?;
        Ok(Self { scale, shift: builder.param("bias", &[channels], Init::Zeros)? })
    }

    /// Normalises groups of channels over space.
    ///
    /// # Errors
    /// An input `[n, h, w, c]` of other channels.
    pub(crate) fn group_norm(&self, x: &Tensor, settings: GroupNorm) -> Result<Tensor> {
        Ok(ops::group_norm(x, &self.scale, &self.shift, settings)?)
    }

    /// Normalises the last dimension.
    ///
    /// # Errors
    /// An input of other channels.
    pub(crate) fn layer_norm(&self, x: &Tensor, eps: f32) -> Result<Tensor> {
        Ok(ops::layer_norm(x, Some((&self.scale, &self.shift)), eps)?)
    }
}

/// `[n, c, h, w]` to `[n, h, w, c]`.
pub(crate) fn channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(ops::permute(x, &[0, 2, 3, 1])?)
}

/// `[n, h, w, c]` to `[n, c, h, w]`.
pub(crate) fn channels_first(x: &Tensor) -> Result<Tensor> {
    Ok(ops::permute(x, &[0, 3, 1, 2])?)
}
