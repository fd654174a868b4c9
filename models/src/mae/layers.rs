//! Convolutions and GroupNorms with their parameters.

use candle_core::Tensor;
use drifting_spec::MaeConfig;

use crate::Result;
use crate::nn::{Builder, Init};
use crate::ops::{self, Conv, ConvChain, ConvNorm, EPSILON, GroupNorm, Skip, conv_chain, group_norm};

/// Side and stride of a kernel, inputs and outputs of a convolution. The padding keeps the map's side, divided by the
/// stride and rounded up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) side: usize,
    pub(super) stride: usize,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A convolution and the norm behind it: the names of the two, the shape, and whether ReLU follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a> {
    pub(super) names: [&'a str; 2],
    pub(super) shape: Shape,
    pub(super) relu: bool,
}

/// GroupNorm with a learned scale and bias.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    scale: Tensor,
    bias: Tensor,
    settings: GroupNorm,
}

impl Norm {
    /// The parameters `weight` (ones) and `bias` (zeros), `[channels]` each.
    pub(super) fn new(builder: &Builder, config: &MaeConfig, channels: usize) -> Result<Self> {
        let scale = builder.param("weight", &[channels], Init::Ones)?;
        let bias = builder.param("bias", &[channels], Init::Zeros)?;
        Ok(Self { scale, bias, settings: norm(config, channels, false) })
    }

    /// x `[n, h, w, channels]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(group_norm(x, &self.scale, &self.bias, self.settings)?)
    }
}

fn norm(config: &MaeConfig, channels: usize, relu: bool) -> GroupNorm {
    GroupNorm { groups: config.groups(channels), eps: EPSILON, relu }
}

/// Convolutions without bias, each with its norm, in a row; and what leads around them.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    settings: ConvChain,
    parameters: Parameters,
}

#[derive(Clone, Debug)]
enum Parameters {
    /// Kernel, scale and bias of each layer, tracked one by one.
    Trained(Vec<Tensor>),
    /// The same, flat, as one constant.
    Frozen(Tensor),
}

/// What leads around a [`Chain`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Around<'a> {
    Nothing,
    Identity,
    Projection(Layer<'a>),
}

impl Chain {
    /// For each layer a kernel `weight` `[side, side, from, to]` under its first name and a norm's `weight` and `bias`
    /// under its second.
    pub(super) fn new(builder: &Builder, config: &MaeConfig, layers: &[Layer<'_>], around: Around<'_>) -> Result<Self> {
        let mut parameters = Vec::new();
        let mut add = |layer: &Layer<'_>| -> Result<ConvNorm> {
            let Shape { side, stride, from, to } = layer.shape;
            let [conv, gn] = layer.names.map(|name| builder.part(name));
            let kernel = [side, side, from, to];
            parameters.push(conv.param("weight", &kernel, Init::LeCun { fan_in: side * side * from })?);
            parameters.push(gn.param("weight", &[to], Init::Ones)?);
            parameters.push(gn.param("bias", &[to], Init::Zeros)?);
            Ok(ConvNorm { kernel, conv: Conv::new(stride, side / 2), norm: norm(config, to, layer.relu) })
        };
        let layers = layers.iter().map(&mut add).collect::<Result<_>>()?;
        let skip = match around {
            Around::Nothing => Skip::None,
            Around::Identity => Skip::Identity,
            Around::Projection(layer) => Skip::Projection(add(&layer)?),
        };
        let parameters = match builder.is_frozen() {
            true => Parameters::Frozen(flat(&parameters)?),
            false => Parameters::Trained(parameters),
        };
        Ok(Self { settings: ConvChain { layers, skip }, parameters })
    }

    /// x `[n, h, w, from]` to `[n, h', w', to]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match &self.parameters {
            Parameters::Frozen(parameters) => conv_chain(x, parameters, &self.settings)?,
            Parameters::Trained(parameters) => conv_chain(x, &flat(parameters)?, &self.settings)?,
        })
    }
}

fn flat(parameters: &[Tensor]) -> candle_core::Result<Tensor> {
    Tensor::cat(&parameters.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?, 0)
}

/// A 1x1 convolution with bias.
#[derive(Clone, Debug)]
pub(super) struct Head {
    weight: Tensor,
    bias: Tensor,
}

impl Head {
    /// The parameters `weight` `[1, 1, from, to]` and `bias` `[to]`.
    pub(super) fn new(builder: &Builder, from: usize, to: usize) -> Result<Self> {
        let weight = builder.param("weight", &[1, 1, from, to], Init::LeCun { fan_in: from })?;
        Ok(Self { weight, bias: builder.param("bias", &[to], Init::Zeros)? })
    }

    /// x `[n, h, w, from]` to `[n, h, w, to]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::conv2d(x, &self.weight, Some(&self.bias), Conv::new(1, 0))?)
    }
}
