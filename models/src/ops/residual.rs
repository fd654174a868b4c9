//! Convolutions with group norm, one after the other and around them a skip connection, in one operation.
//!
//! A convolution with its norm reads and writes its map several times, and so does the automatic differentiation of every
//! edge between operations. Here a task takes a few images through a whole residual block while they are in cache, and the
//! backward pass does the same. The result is that of the single operations ([`conv2d`], [`group_norm`]), which the tests
//! hold it against.

mod layer;
mod op;
mod pass;

use std::sync::Mutex;

use candle_core::{Result, Tensor, bail};

use self::layer::LayerSettings;
use self::op::{Block, Frozen, Trained};
use super::{Conv, GroupNorm, conv2d, group_norm};

/// A convolution without bias and the group norm after it.
#[derive(Clone, Copy, Debug)]
pub struct NormedConv<'a> {
    /// Kernel `[kernel, kernel, channels, outputs]`.
    pub weight: &'a Tensor,
    /// Scale of the norm, `[outputs]`.
    pub scale: &'a Tensor,
    /// Bias of the norm, `[outputs]`.
    pub bias: &'a Tensor,
    /// How the kernel moves; dense.
    pub conv: Conv,
    /// The norm, with ReLU or without.
    pub norm: GroupNorm,
}

/// [`group_norm`] of [`conv2d`]: `[n, height, width, channels]` to `[n, height', width', outputs]`.
///
/// # Errors
/// Shapes that do not fit each other, convolutions that are not dense.
pub fn normed_conv(x: &Tensor, layer: NormedConv<'_>) -> Result<Tensor> {
    apply(x, &[layer], None, false)
}

/// ReLU(skip(x) + body(x)), the body being one layer after the other; without a layer, skip(x) is x.
///
/// Shapes: x `[n, height, width, channels]`, result that of the last layer.
///
/// # Errors
/// Shapes that do not fit each other, convolutions that are not dense, a body without layers.
pub fn residual(x: &Tensor, body: &[NormedConv<'_>], skip: Option<NormedConv<'_>>) -> Result<Tensor> {
    apply(x, body, skip, true)
}

fn apply(x: &Tensor, body: &[NormedConv<'_>], skip: Option<NormedConv<'_>>, adds: bool) -> Result<Tensor> {
    let mut settings: Vec<LayerSettings> = Vec::new();
    let mut shape = x.dims4()?;
    for layer in body {
        settings.push(LayerSettings::new(shape, layer)?);
        shape = settings[settings.len() - 1].out_shape();
    }
    let side = skip.map(|layer| LayerSettings::new(x.dims4()?, &layer)).transpose()?;
    let around = side.as_ref().map_or(x.dims4()?, LayerSettings::out_shape);
    if body.is_empty() || (adds && around != shape) {
        bail!("residual block of {} layers: {around:?} around them, {shape:?} through them", body.len());
    }
    if !x.device().is_cpu() {
        return plain(x, body, skip, adds);
    }
    let all: Vec<&NormedConv<'_>> = body.iter().chain(&skip).collect();
    let tensors = all.iter().map(|layer| [layer.weight, layer.scale, layer.bias]);
    let frozen = !tensors.clone().flatten().any(Tensor::track_op);
    let block = Block { body: settings, skip: side, adds };
    let saved = (x.track_op() || !frozen).then(Mutex::default);
    let x = x.contiguous()?;
    if frozen {
        let weights = tensors.flatten().map(Tensor::contiguous).collect::<Result<_>>()?;
        return x.apply_op1(Frozen { block, weights, saved });
    }
    let weights = tensors.flatten().map(Tensor::flatten_all).collect::<Result<Vec<_>>>()?;
    x.apply_op2(&Tensor::cat(&weights, 0)?, Trained { block, saved })
}

fn plain(x: &Tensor, body: &[NormedConv<'_>], skip: Option<NormedConv<'_>>, adds: bool) -> Result<Tensor> {
    let one = |x: &Tensor, layer: &NormedConv<'_>| {
        group_norm(&conv2d(x, layer.weight, None, layer.conv)?, layer.scale, layer.bias, layer.norm)
    };
    let mut y = x.clone();
    for layer in body {
        y = one(&y, layer)?;
    }
    if !adds {
        return Ok(y);
    }
    match skip {
        Some(layer) => one(x, &layer)? + y,
        None => x + y,
    }?
    .relu()
}

#[cfg(test)]
mod tests;
