//! Convolution and GroupNorm with their parameters.

use candle_core::Tensor;
use drifting_spec::MaeConfig;

use crate::Result;
use crate::nn::{Builder, Init};
use crate::ops::{Conv, EPSILON, GroupNorm, NormedConv, group_norm, normed_conv};

/// Side, stride and channels of a convolution; the padding keeps the map's side, divided by the stride and rounded up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) side: usize,
    pub(super) stride: usize,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A convolution without bias.
#[derive(Clone, Debug)]
pub(super) struct Convolution {
    weight: Tensor,
    settings: Conv,
}

impl Convolution {
    /// The parameter `weight` `[side, side, from, to]`.
    pub(super) fn new(builder: &Builder, shape: Shape) -> Result<Self> {
        let Shape { side, stride, from, to } = shape;
        let weight = builder.param("weight", &[side, side, from, to], Init::LeCun { fan_in: side * side * from })?;
        Ok(Self { weight, settings: Conv::new(stride, side / 2) })
    }
}

/// GroupNorm with a learned scale and bias, followed by ReLU where asked for.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    scale: Tensor,
    bias: Tensor,
    settings: GroupNorm,
}

impl Norm {
    /// The parameters `weight` (ones) and `bias` (zeros), `[channels]` each.
    pub(super) fn new(builder: &Builder, config: &MaeConfig, channels: usize, relu: bool) -> Result<Self> {
        let scale = builder.param("weight", &[channels], Init::Ones)?;
        let bias = builder.param("bias", &[channels], Init::Zeros)?;
        Ok(Self { scale, bias, settings: GroupNorm { groups: config.groups(channels), eps: EPSILON, relu } })
    }

    /// x `[n, h, w, channels]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(group_norm(x, &self.scale, &self.bias, self.settings)?)
    }
}

/// Convolution, GroupNorm and, where asked for, ReLU.
#[derive(Clone, Debug)]
pub(super) struct ConvNorm {
    conv: Convolution,
    norm: Norm,
}

impl ConvNorm {
    /// The parts `conv` and `norm` of `builder` by the names of their owner.
    pub(super) fn new(
        builder: &Builder,
        names: [&str; 2],
        config: &MaeConfig,
        (shape, relu): (Shape, bool),
    ) -> Result<Self> {
        let conv = Convolution::new(&builder.part(names[0]), shape)?;
        Ok(Self { conv, norm: Norm::new(&builder.part(names[1]), config, shape.to, relu)? })
    }

    /// x `[n, h, w, from]` to `[n, h', w', to]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(normed_conv(x, self.layer())?)
    }

    /// The layer as the fused operations take it.
    pub(super) fn layer(&self) -> NormedConv<'_> {
        let (Convolution { weight, settings: conv }, Norm { scale, bias, settings: norm }) = (&self.conv, &self.norm);
        NormedConv { weight, scale, bias, conv: *conv, norm: *norm }
    }
}
