//! The operation: tasks that take images through a chain.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::super::block::sum;
use super::super::conv::geometry::Geometry;
use super::super::storage::{Values, slice};
use super::layer::{Layer, LayerSettings};
use super::pass::{Pass, Saved, Scratch};
use crate::profile;

/// Tasks that a weight gradient is split into.
const PARTS: usize = 16;
/// Memory that the tasks' own weight gradients may take together, in bytes.
const GRADIENT_MEMORY: usize = 256 << 20;
/// Pixels of the result that a task takes at once, about.
const PIXELS: usize = 768;
/// Steps that a batch should have at least.
const STEPS: usize = 4;

/// A chain; its weights are an argument: those of every layer, flat, one after the other.
pub(super) struct Fused {
    pub(super) layers: Vec<LayerSettings>,
    pub(super) projection: Option<LayerSettings>,
    pub(super) residual: bool,
    /// Of the first layer.
    pub(super) first: Geometry,
    /// Of the last layer.
    pub(super) last: Geometry,
    /// What the forward pass keeps for the backward pass, step by step; nothing if there will be none.
    pub(super) kept: Option<Mutex<Vec<Saved>>>,
}

impl Fused {
    /// The layers with their part of the weights.
    fn pass<'a>(&self, mut flat: &'a [f32]) -> Pass<'a> {
        let mut take = |len: usize| {
            let (part, rest) = flat.split_at(len);
            flat = rest;
            part
        };
        let mut layer = |settings: &LayerSettings| Layer::new(*settings, settings.lens().map(&mut take));
        let body = self.layers.iter().map(&mut layer).collect();
        Pass { body, skip: self.projection.as_ref().map(layer), adds: self.residual }
    }

    /// Images of a step.
    fn step(&self) -> usize {
        let most = self.last.batch.div_ceil(STEPS).max(1);
        PIXELS.div_ceil(self.last.out_height * self.last.out_width).min(most)
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "conv-chain"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("convolution chain");
        let x = slice(x, x_layout)?;
        let mut pass = self.pass(slice(weights, weights_layout)?);
        pass.prepare();
        let (step, last) = (self.step(), &self.last);
        let image = last.out_height * last.out_row();
        let mut out = vec![0.0; last.batch * image];
        let steps = out.par_chunks_mut(step * image).zip(x.par_chunks(step * self.first.image()));
        let saved = steps.map_init(<(Saved, Scratch)>::default, |(saved, scratch), (out, x)| {
            pass.forward(x, out, saved, scratch);
            self.kept.is_some().then(|| std::mem::take(saved))
        });
        let saved = saved.collect::<Vec<_>>().into_iter().flatten().collect();
        if let Some(kept) = &self.kept {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        }
        Ok((CpuStorage::F32(out), (last.batch, last.out_height, last.out_width, last.outputs).into()))
    }

    fn bwd(&self, x: &Tensor, weights: &Tensor, out: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("convolution chain, backward");
        let Some(kept) = &self.kept else { return Ok((None, None)) };
        let saved = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let dy = dy.contiguous()?;
        let (x_values, out_values, dy) = (Values::of(x)?, Values::of(out)?, Values::of(&dy)?);
        let flat = Values::of(weights)?;
        let (for_x, trained) = (x.track_op(), if weights.track_op() { flat.len() } else { 0 });
        let mut pass = self.pass(&flat);
        pass.turn(for_x);
        let (step, steps) = (self.step(), self.last.batch.div_ceil(self.step()));
        let parts = if trained > 0 { (GRADIENT_MEMORY / (4 * trained)).clamp(2, PARTS) } else { steps };
        let per_part = steps.div_ceil(parts.max(1)).max(1);
        let (image, out_image) = (self.first.image(), self.last.out_height * self.last.out_row());
        let images = step * per_part;
        let part = |scratch: &mut Scratch, (dx, (((x, out), dy), saved)): Task<'_>| {
            let mut weights = vec![0.0; trained];
            let mut dx = dx.chunks_mut(step * image);
            let read = x.chunks(step * image).zip(out.chunks(step * out_image));
            for (((x, out), dy), saved) in read.zip(dy.chunks(step * out_image)).zip(saved) {
                pass.backward((x, out, dy), saved, dx.next(), &mut weights, scratch);
            }
            weights
        };
        let read = x_values.par_chunks(images * image).zip(out_values.par_chunks(images * out_image));
        let read = read.zip(dy.par_chunks(images * out_image)).zip(saved.par_chunks(per_part));
        let mut dx = vec![0.0; if for_x { x_values.len() } else { 0 }];
        let weight_grads: Vec<Vec<f32>> = if for_x {
            dx.par_chunks_mut(images * image).zip(read).map_init(Scratch::default, part).collect()
        } else {
            read.map_init(Scratch::default, |scratch, read| part(scratch, (&mut [], read))).collect()
        };
        let dw = (trained > 0).then(|| sum(weight_grads, trained));
        Ok((
            for_x.then(|| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?,
            dw.map(|dw| Tensor::from_vec(dw, weights.shape(), weights.device())).transpose()?,
        ))
    }
}

/// The gradient of some images to write, and the images, their results, the results' gradients and what was kept to read.
type Task<'a> = (&'a mut [f32], (((&'a [f32], &'a [f32]), &'a [f32]), &'a [Saved]));
