//! Convolutions with group norms in a row, around which a residual connection may lead, as one operation.
//!
//! The same as [`conv2d`], [`group_norm`], a sum and ReLU one after the other. But each of these passes over its map
//! several times, and candle clears and adds a tensor for every gradient between two of them. Here a task takes a few images
//! through the whole chain while they are in cache, the backward pass does the same, and nothing but what the gradients need
//! is kept.

mod layer;
mod op;
mod pass;

use std::sync::Mutex;

use candle_core::{Result, Tensor, bail};

use self::layer::LayerSettings;
use self::op::Fused;
use super::conv::{Conv, conv2d};
use super::gpu;
use super::group_norm::{GroupNorm, group_norm};
use super::operations::{fused, kernels};

/// A convolution without bias and the norm behind it.
#[derive(Clone, Copy, Debug)]
pub struct ConvNorm {
    /// Shape of the kernel: `[side, side, inputs, outputs]`.
    pub kernel: [usize; 4],
    /// How the kernel moves.
    pub conv: Conv,
    /// The norm, with or without ReLU.
    pub norm: GroupNorm,
}

impl ConvNorm {
    /// Numbers in the kernel and in the norm's scale and bias.
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.kernel.iter().product(), self.kernel[3]]
    }

    fn len(&self) -> usize {
        let [kernel, channels] = self.sizes();
        kernel + 2 * channels
    }
}

/// What is added to the last layer's result.
#[derive(Clone, Copy, Debug)]
pub enum Skip {
    /// Nothing.
    None,
    /// The images, and then ReLU.
    Identity,
    /// The images behind a layer of their own, and then ReLU.
    Projection(ConvNorm),
}

/// Layers, and what leads around them.
#[derive(Clone, Debug)]
pub struct ConvChain {
    /// One after the other.
    pub layers: Vec<ConvNorm>,
    /// Around them.
    pub skip: Skip,
}

impl ConvChain {
    /// The layers in the order of their parameters: the chain's, then the projection.
    fn all(&self) -> impl Iterator<Item = &ConvNorm> {
        let projection = match &self.skip {
            Skip::Projection(layer) => Some(layer),
            Skip::None | Skip::Identity => None,
        };
        self.layers.iter().chain(projection)
    }
}

/// Runs a chain over images `[n, height, width, channels]`.
///
/// `parameters` are flat: kernel, scale and bias of each layer, then of the projection. Gradients of parameters that are not
/// tracked are not computed.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn conv_chain(x: &Tensor, parameters: &Tensor, chain: &ConvChain) -> Result<Tensor> {
    let expected: usize = chain.all().map(ConvNorm::len).sum();
    if parameters.dims() != [expected] {
        bail!("a chain of convolutions with {expected} parameters: {:?}", parameters.dims());
    }
    if kernels(x.device()) {
        return gpu::conv_chain(x, parameters, chain);
    }
    if !fused(x.device()) {
        return plain(x, parameters, chain);
    }
    let (mut images, mut layers) = (x.dims4()?, Vec::new());
    for settings in &chain.layers {
        let layer = LayerSettings::new(images, settings)?;
        images = layer.result();
        layers.push(layer);
    }
    let (Some(first), Some(last)) = (layers.first(), layers.last()) else { bail!("a chain of no convolutions") };
    let (first, last) = (first.geometry, last.geometry);
    let projection = match &chain.skip {
        Skip::Projection(settings) => Some(LayerSettings::new(x.dims4()?, settings)?),
        Skip::None | Skip::Identity => None,
    };
    let skipped = projection.as_ref().map_or_else(|| x.dims4(), |layer| Ok(layer.result()))?;
    let residual = !matches!(chain.skip, Skip::None);
    if residual && skipped != images {
        bail!("a residual connection from {skipped:?} to {images:?}");
    }
    let kept = (x.track_op() || parameters.track_op()).then(Mutex::default);
    let op = Fused { layers, projection, residual, first, last, kept };
    x.contiguous()?.apply_op2(&parameters.contiguous()?, op)
}

fn plain(x: &Tensor, parameters: &Tensor, chain: &ConvChain) -> Result<Tensor> {
    let mut start = 0;
    let mut layer = |x: &Tensor, settings: &ConvNorm| {
        let [kernel, channels] = settings.sizes();
        let weight = parameters.narrow(0, start, kernel)?.reshape(&settings.kernel)?;
        let scale = parameters.narrow(0, start + kernel, channels)?;
        let bias = parameters.narrow(0, start + kernel + channels, channels)?;
        start += settings.len();
        group_norm(&conv2d(x, &weight, None, settings.conv)?, &scale, &bias, settings.norm)
    };
    let y = chain.layers.iter().try_fold(x.clone(), |x, settings| layer(&x, settings))?;
    match &chain.skip {
        Skip::None => Ok(y),
        Skip::Identity => (y + x)?.relu(),
        Skip::Projection(settings) => (y + layer(x, settings)?)?.relu(),
    }
}

#[cfg(test)]
mod tests;
