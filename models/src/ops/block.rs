//! A whole transformer block in one operation.
//!
//! The parts of a block pass tensors many times the size of its input to each other, and each pass through memory costs
//! more than the arithmetic on it. Here a task takes a few images through the whole block while they are in cache; the
//! backward pass does the same. The result is that of the single operations ([`norm`](super::norm),
//! [`linear`](super::linear()), [`attention`](super::attention()), [`swiglu`](super::swiglu()),
//! [`gated_add`](super::gated_add)), which the tests hold it against.

mod backward;
mod composed;
mod forward;
mod weights;

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use drifting_spec::Norm;
use rayon::prelude::*;

pub use self::weights::BlockSizes;

use self::backward::Backward;
use self::composed::composed;
use self::forward::{Forward, Saved};
use super::attention::Attention;
use super::gpu;
use super::operations::{fused, kernels};
use super::simd::{self, Kernel};
use super::storage::{Values, slice};
use super::tensors::reversible::recomputed;
use crate::profile;

/// Tasks that a batch is split into, whatever the number of threads: sums over images are added in a fixed order.
const PARTS: usize = 16;
/// Memory that the tasks' own weight gradients may take together, in bytes.
const GRADIENT_MEMORY: usize = 256 << 20;
/// Rows that a task takes through the block at once, at least; and as many as the weights have columns, twice, since they pass
/// through the cache for each of them.
const ROWS: usize = 128;

/// What a block is, apart from its weights.
#[derive(Clone, Debug)]
pub struct BlockSettings {
    /// Sizes of its parameters.
    pub sizes: BlockSizes,
    /// Normalisation before attention and MLP.
    pub norm: Norm,
    /// Attention.
    pub attention: Attention,
}

/// x + gate * attention(norm(x)), then + gate * SwiGLU(norm(x)), on the processor or by kernels.
///
/// Shapes: x `[batch, tokens, hidden]`; modulation `[batch, 6 * hidden]` with shift, scale and gate of the attention, then
/// of the MLP; weights flat in the order of [`BlockSizes`]; result as x.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn block(x: &Tensor, modulation: &Tensor, weights: &Tensor, settings: &BlockSettings) -> Result<Tensor> {
    check(x, modulation, weights, settings)?;
    if by_kernels(x.device(), settings) {
        return gpu::block(x, modulation, weights, settings, false);
    }
    let op = Block { settings: settings.clone(), saved: Mutex::default() };
    x.contiguous()?.apply_op3(&modulation.contiguous()?, &weights.contiguous()?, op)
}

/// As [`block`] on any device, out of single operations: only the inputs are kept for the way back, on which the rest is
/// computed once more.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn block_recomputed(x: &Tensor, modulation: &Tensor, weights: &Tensor, settings: &BlockSettings) -> Result<Tensor> {
    check(x, modulation, weights, settings)?;
    if by_kernels(x.device(), settings) {
        return gpu::block(x, modulation, weights, settings, true);
    }
    let settings = settings.clone();
    recomputed([x, modulation, weights], move |[x, modulation, weights]| composed(x, modulation, weights, &settings))
}

/// Whether [`block`] computes on `device`.
#[must_use]
pub fn is_one_operation(device: &Device, settings: &BlockSettings) -> bool {
    fused(device) || by_kernels(device, settings)
}

fn by_kernels(device: &Device, settings: &BlockSettings) -> bool {
    kernels(device) && gpu::attention_fits(settings.sizes.head_dim)
}

fn check(x: &Tensor, modulation: &Tensor, weights: &Tensor, settings: &BlockSettings) -> Result<()> {
    let (batch, tokens, hidden) = x.dims3()?;
    let sizes = settings.sizes;
    let table = settings.attention.rotation.as_ref().map(|rotation| rotation.cos.len());
    let fits = hidden == sizes.hidden
        && modulation.dims() == [batch, 6 * hidden]
        && weights.dims() == [sizes.total()]
        && settings.attention.heads * sizes.head_dim == hidden
        && table.is_none_or(|table| table == tokens * (sizes.head_dim / 2));
    if !fits {
        let (modulation, weights) = (modulation.dims(), weights.dims());
        candle_core::bail!("block of {:?}: modulation {modulation:?}, weights {weights:?}, {sizes:?}", x.dims());
    }
    Ok(())
}

struct Block {
    settings: BlockSettings,
    /// What the forward pass keeps for the backward pass, part by part.
    saved: Mutex<Vec<Vec<Saved>>>,
}

impl Block {
    /// Images of a part, and of a step within it.
    fn split(&self, batch: usize, tokens: usize) -> (usize, usize) {
        let parts = (GRADIENT_MEMORY / (4 * self.settings.sizes.total())).clamp(2, PARTS);
        (batch.div_ceil(parts), ROWS.max(2 * self.settings.sizes.hidden).div_ceil(tokens))
    }
}

impl CustomOp3 for Block {
    fn name(&self) -> &'static str {
        "block"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        modulation: &CpuStorage,
        modulation_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("block");
        let (batch, tokens, hidden) = x_layout.shape().dims3()?;
        let (x, modulation) = (slice(x, x_layout)?, slice(modulation, modulation_layout)?);
        let weights = self.settings.sizes.split(slice(weights, weights_layout)?);
        let factors = weights.forward();
        let (per_part, per_step) = self.split(batch, tokens);
        let image = tokens * hidden;
        let mut out = vec![0.0; x.len()];
        let parts = out.par_chunks_mut(per_part * image).zip(x.par_chunks(per_part * image));
        let saved = parts.zip(modulation.par_chunks(per_part * 6 * hidden)).map(|((out, x), modulation)| {
            let mut forward = Forward::new(&self.settings, (&weights, &factors), tokens);
            let steps = out.chunks_mut(per_step * image).zip(x.chunks(per_step * image));
            let steps = steps.zip(modulation.chunks(per_step * 6 * hidden));
            steps.map(|((out, x), m)| simd::dispatch_kernel(ForwardStep(&mut forward, x, m, out))).collect()
        });
        let saved = saved.collect();
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        modulation: &Tensor,
        weights: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("block, backward");
        let grad = grad.contiguous()?;
        let (batch, tokens, hidden) = x.dims3()?;
        let (x_values, modulation_values) = (Values::of(x)?, Values::of(modulation)?);
        let (flat, dy) = (Values::of(weights)?, Values::of(&grad)?);
        let sizes = self.settings.sizes;
        let split = sizes.split(&flat);
        let factors = split.backward();
        let (per_part, per_step) = self.split(batch, tokens);
        let (image, row) = (tokens * hidden, 6 * hidden);
        let saved = std::mem::take(&mut *self.saved.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut x_grad, mut modulation_grad) = (vec![0.0; x_values.len()], vec![0.0; modulation_values.len()]);
        let read = x_values.par_chunks(per_part * image).zip(dy.par_chunks(per_part * image));
        let read = read.zip(modulation_values.par_chunks(per_part * row)).zip(saved);
        let written = x_grad.par_chunks_mut(per_part * image).zip(modulation_grad.par_chunks_mut(per_part * row));
        let weight_grads: Vec<Vec<f32>> = written
            .zip(read)
            .map(|((dx, dm), (((x, dy), m), saved))| {
                let mut backward = Backward::new(&self.settings, (&split, &factors), tokens);
                let steps = dx.chunks_mut(per_step * image).zip(dm.chunks_mut(per_step * row));
                let steps = steps.zip(x.chunks(per_step * image).zip(dy.chunks(per_step * image)));
                for (((dx, dm), (x, dy)), (m, saved)) in steps.zip(m.chunks(per_step * row).zip(saved)) {
                    simd::dispatch_kernel(BackwardStep(&mut backward, (x, m, dy), saved, (dx, dm)));
                }
                backward.weights
            })
            .collect();
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(x_grad, x.shape(), device)?),
            Some(Tensor::from_vec(modulation_grad, modulation.shape(), device)?),
            Some(Tensor::from_vec(sum(weight_grads, sizes.total()), sizes.total(), device)?),
        ))
    }
}

struct ForwardStep<'a, 'b>(&'a mut Forward<'b>, &'a [f32], &'a [f32], &'a mut [f32]);

impl Kernel for ForwardStep<'_, '_> {
    type Output = Saved;

    #[inline(always)]
    fn run(self) -> Saved {
        self.0.run(self.1, self.2, self.3)
    }
}

type Read<'a> = (&'a [f32], &'a [f32], &'a [f32]);
type Written<'a> = (&'a mut [f32], &'a mut [f32]);

struct BackwardStep<'a, 'b>(&'a mut Backward<'b>, Read<'a>, Saved, Written<'a>);

impl Kernel for BackwardStep<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.0.run(self.1, &self.2, self.3);
    }
}

/// Adds vectors of one length in their order.
pub(super) fn sum(vectors: Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    const CHUNK: usize = 1 << 14;
    let mut vectors = vectors.into_iter();
    let Some(mut total) = vectors.next() else { return vec![0.0; len] };
    let rest: Vec<_> = vectors.collect();
    total.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, total)| {
        for vector in &rest {
            total.iter_mut().zip(&vector[chunk * CHUNK..]).for_each(|(total, value)| *total += value);
        }
    });
    total
}

#[cfg(test)]
mod tests;
