//! Convolutions with group norms in a row, around which a residual connection may lead, as one operation.
//!
//! The same as [`conv2d`], [`group_norm`], a sum and ReLU one after the other. As one operation, no gradient between two of
//! its layers passes through candle, which clears and adds a tensor for each, and nothing but what the gradients need is
//! kept.

mod layer;

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use self::layer::{Kept, Layer};
use super::conv::{Conv, conv2d};
use super::group_norm::{GroupNorm, group_norm};
use super::simd::{self, Kernel};
use super::storage::{Values, slice};

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
    fn sizes(&self) -> [usize; 2] {
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
    if !x.device().is_cpu() {
        return plain(x, parameters, chain);
    }
    let (mut images, mut start, mut layers) = (x.dims4()?, 0, Vec::new());
    for settings in &chain.layers {
        let layer = Layer::new(images, settings, start)?;
        (images, start) = (layer.result(), start + settings.len());
        layers.push(layer);
    }
    let projection = match &chain.skip {
        Skip::Projection(settings) => Some(Layer::new(x.dims4()?, settings, start)?),
        Skip::None | Skip::Identity => None,
    };
    let skipped = projection.as_ref().map_or_else(|| x.dims4(), |layer| Ok(layer.result()))?;
    let residual = !matches!(chain.skip, Skip::None);
    if residual && skipped != images {
        bail!("a residual connection from {skipped:?} to {images:?}");
    }
    let keep = Keep { gradients: x.track_op() || parameters.track_op(), results: parameters.track_op() };
    let op = Fused { layers, projection, residual, result: images, keep, kept: Mutex::default() };
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

/// What the forward pass keeps for the backward pass.
#[derive(Clone, Copy)]
struct Keep {
    /// Anything.
    gradients: bool,
    /// What each layer made, which only gradients of kernels need.
    results: bool,
}

struct Fused {
    layers: Vec<Layer>,
    projection: Option<Layer>,
    residual: bool,
    result: (usize, usize, usize, usize),
    keep: Keep,
    /// Of the layers, then of the projection.
    kept: Mutex<Vec<Kept>>,
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "conv-chain"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, parameters) = (slice(x, x_layout)?, slice(parameters, parameters_layout)?);
        let (mut y, mut all) = (Vec::new(), Vec::new());
        for (i, layer) in self.layers.iter().enumerate() {
            let input = if i == 0 { x } else { &y };
            let (result, mut kept) = layer.forward(parameters, input, self.keep.gradients);
            if self.keep.results && i > 0 {
                kept.input = std::mem::take(&mut y);
            }
            y = result;
            all.push(kept);
        }
        if self.residual {
            match &self.projection {
                None => add_relu(&mut y, x),
                Some(layer) => {
                    let (result, kept) = layer.forward(parameters, x, self.keep.gradients);
                    add_relu(&mut y, &result);
                    all.push(kept);
                }
            }
        }
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = all;
        Ok((CpuStorage::F32(y), self.result.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (grad, tracked) = (grad.contiguous()?, parameters.track_op());
        let (x_values, values, y, grad) = (Values::of(x)?, Values::of(parameters)?, Values::of(y)?, Values::of(&grad)?);
        let all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slopes = vec![0.0; if tracked { values.len() } else { 0 }];
        let behind = if self.residual { through_relu(&grad, &y) } else { grad.to_vec() };
        let mut skipped = None;
        if let (Some(layer), Some(kept)) = (&self.projection, all.get(self.layers.len())) {
            skipped = Some(layer.backward(&values, (&x_values, kept), &behind, &mut slopes));
        }
        let mut dx: Option<Vec<f32>> = None;
        for (i, (layer, kept)) in self.layers.iter().zip(all.iter()).enumerate().rev() {
            let input: &[f32] = if i == 0 { &x_values } else { &kept.input };
            dx = Some(layer.backward(&values, (input, kept), dx.as_deref().unwrap_or(&behind), &mut slopes));
        }
        let mut dx = dx.unwrap_or_else(|| behind.clone());
        if self.residual {
            add(&mut dx, skipped.as_ref().unwrap_or(&behind));
        }
        let slopes = tracked.then(|| Tensor::from_vec(slopes, values.len(), x.device())).transpose()?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), slopes))
    }
}

/// Numbers that a task adds: enough to be worth one.
const CHUNK: usize = 1 << 14;

/// y = ReLU(y + x).
fn add_relu(y: &mut [f32], x: &[f32]) {
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        simd::dispatch_kernel(Each(y, x, |y, x| {
            let sum = y + x;
            // In this order NaN stays NaN.
            if sum < 0.0 { 0.0 } else { sum }
        }));
    });
}

/// y += x.
fn add(y: &mut [f32], x: &[f32]) {
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        simd::dispatch_kernel(Each(y, x, |y, x| y + x));
    });
}

/// The gradient where ReLU's result is above 0.
fn through_relu(grad: &[f32], y: &[f32]) -> Vec<f32> {
    let mut through = grad.to_vec();
    through.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).for_each(|(grad, y)| {
        simd::dispatch_kernel(Each(grad, y, |grad, y| if y > 0.0 { grad } else { 0.0 }));
    });
    through
}

/// y = f(y, x) for each number.
struct Each<'a, F>(&'a mut [f32], &'a [f32], F);

impl<F: Fn(f32, f32) -> f32> Kernel for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(y, x, f) = self;
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(*y, x));
    }
}

#[cfg(test)]
mod tests;
