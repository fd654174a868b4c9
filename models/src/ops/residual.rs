//! Convolutions with group norm, one after the other and around them a skip connection, in one operation.
//!
//! A convolution with its norm reads and writes its map several times, and so does the automatic differentiation of every
//! edge between operations. Here a task takes a few images through a whole residual block while they are in cache, and the
//! backward pass does the same. The result is that of the single operations ([`conv2d`], [`group_norm`]), which the tests
//! hold it against.

mod layer;
mod pass;

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use self::layer::{Layer, LayerSettings};
use self::pass::{Gradients, Pass, Saved};
use super::block::sum;
use super::conv::geometry::Geometry;
use super::storage::{Values, slice};
use super::{Conv, GroupNorm, conv2d, group_norm};

/// Tasks that a weight gradient is split into.
const PARTS: usize = 16;
/// Memory that the tasks' own weight gradients may take together, in bytes.
const GRADIENT_MEMORY: usize = 256 << 20;
/// Pixels of the result that a task takes at once at least.
const PIXELS: usize = 256;

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
    let tracked = x.track_op()
        || all.iter().any(|layer| [layer.weight, layer.scale, layer.bias].iter().any(|tensor| tensor.track_op()));
    let mut weights = Vec::new();
    for layer in all {
        weights.extend([layer.weight.flatten_all()?, layer.scale.clone(), layer.bias.clone()]);
    }
    let op = Residual { body: settings, skip: side, adds, saved: tracked.then(Mutex::default) };
    x.contiguous()?.apply_op2(&Tensor::cat(&weights, 0)?, op)
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

struct Residual {
    body: Vec<LayerSettings>,
    skip: Option<LayerSettings>,
    adds: bool,
    /// What the forward pass keeps for the backward pass, step by step; nothing if there will be none.
    saved: Option<Mutex<Vec<Saved>>>,
}

impl Residual {
    /// The layers with their part of the weights.
    fn pass<'a>(&self, mut flat: &'a [f32]) -> Pass<'a> {
        let mut take = |settings: &LayerSettings| {
            let (own, rest) = flat.split_at(settings.len());
            flat = rest;
            Layer::new(*settings, own)
        };
        let body = self.body.iter().map(&mut take).collect();
        Pass { body, skip: self.skip.as_ref().map(take), adds: self.adds }
    }

    fn first(&self) -> &Geometry {
        &self.body[0].geometry
    }

    fn last(&self) -> &Geometry {
        &self.body[self.body.len() - 1].geometry
    }

    /// Images of a step.
    fn step(&self) -> usize {
        PIXELS.div_ceil(self.last().out_height * self.last().out_width)
    }
}

impl CustomOp2 for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weights) = (slice(x, x_layout)?, slice(weights, weights_layout)?);
        let (pass, last) = (self.pass(weights), self.last());
        let (step, image) = (self.step(), last.out_height * last.out_row());
        let mut out = vec![0.0; last.batch * image];
        let steps = out.par_chunks_mut(step * image).zip(x.par_chunks(step * self.first().image()));
        let saved = steps.map_init(Vec::new, |buffer, (out, x)| {
            let saved = pass.forward(x, out, buffer);
            self.saved.is_some().then_some(saved)
        });
        let saved = saved.collect::<Vec<_>>().into_iter().flatten().collect();
        if let Some(kept) = &self.saved {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        }
        Ok((CpuStorage::F32(out), (last.batch, last.out_height, last.out_width, last.outputs).into()))
    }

    fn bwd(&self, x: &Tensor, weights: &Tensor, out: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (x_values, flat) = (Values::of(x)?, Values::of(weights)?);
        let (out_values, dy) = (Values::of(out)?, Values::of(&dy)?);
        let flat: &[f32] = &flat;
        let Some(saved) = &self.saved else { return Ok((None, None)) };
        let saved = saved.lock().unwrap_or_else(PoisonError::into_inner);
        let (for_x, for_weights) = (x.track_op(), weights.track_op());
        let mut pass = self.pass(flat);
        pass.turn(for_x);
        let steps = self.last().batch.div_ceil(self.step());
        let parts = if for_weights { (GRADIENT_MEMORY / (4 * flat.len())).clamp(2, PARTS) } else { steps };
        let per_part = steps.div_ceil(parts.max(1)).max(1);
        let (image, out_image) = (self.first().image(), self.last().out_height * self.last().out_row());
        let images = self.step() * per_part;
        let mut dx = vec![0.0; if for_x { x_values.len() } else { 0 }];
        let part = |(dx, (((x, out), dy), saved)): Task<'_>| {
            let mut gradients = Gradients::new(if for_weights { flat.len() } else { 0 });
            let mut dx = dx.chunks_mut(self.step() * image);
            let read = x.chunks(self.step() * image).zip(out.chunks(self.step() * out_image));
            for (((x, out), dy), saved) in read.zip(dy.chunks(self.step() * out_image)).zip(saved) {
                pass.backward((x, out, dy), saved, dx.next(), &mut gradients);
            }
            gradients.weights
        };
        let read = x_values.par_chunks(images * image).zip(out_values.par_chunks(images * out_image));
        let read = read.zip(dy.par_chunks(images * out_image)).zip(saved.par_chunks(per_part));
        let weight_grads: Vec<Vec<f32>> = if for_x {
            dx.par_chunks_mut(images * image).zip(read).map(part).collect()
        } else {
            read.map(|read| part((&mut [], read))).collect()
        };
        let for_weights = for_weights.then(|| sum(weight_grads, flat.len()));
        Ok((
            for_x.then(|| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?,
            for_weights.map(|sum| Tensor::from_vec(sum, weights.shape(), x.device())).transpose()?,
        ))
    }
}

/// The gradient of some images to write, and the images, their results, the results' gradients and what was kept to read.
type Task<'a> = (&'a mut [f32], (((&'a [f32], &'a [f32]), &'a [f32]), &'a [Saved]));

#[cfg(test)]
mod tests;
