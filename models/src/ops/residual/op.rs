//! The operations: a block of constant weights, and one whose weights are trained.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::super::block::sum;
use super::super::conv::geometry::Geometry;
use super::super::storage::{Values, slice};
use super::layer::{Layer, LayerSettings};
use super::pass::{Gradients, Pass, Saved};

/// Tasks that a weight gradient is split into.
const PARTS: usize = 16;
/// Memory that the tasks' own weight gradients may take together, in bytes.
const GRADIENT_MEMORY: usize = 256 << 20;
/// Pixels of the result that a task takes at once at least.
const PIXELS: usize = 256;

/// A block without its weights.
pub(super) struct Block {
    pub(super) body: Vec<LayerSettings>,
    pub(super) skip: Option<LayerSettings>,
    pub(super) adds: bool,
}

/// What the forward pass keeps for the backward pass, step by step; nothing if there will be none.
pub(super) type Kept = Option<Mutex<Vec<Saved>>>;

/// A block of constant weights.
pub(super) struct Frozen {
    pub(super) block: Block,
    /// Weight, scale and bias of every layer, contiguous.
    pub(super) weights: Vec<Tensor>,
    pub(super) saved: Kept,
}

/// A block whose weights are an argument: those of every layer, flat, one after the other.
pub(super) struct Trained {
    pub(super) block: Block,
    pub(super) saved: Kept,
}

impl Block {
    /// The layers with their weight, scale and bias.
    fn pass<'a>(&self, weights: impl IntoIterator<Item = &'a [f32]>) -> Pass<'a> {
        let mut weights = weights.into_iter();
        let mut next = || weights.next().unwrap_or_default();
        let mut layer = |settings: &LayerSettings| Layer::new(*settings, [next(), next(), next()]);
        let body = self.body.iter().map(&mut layer).collect();
        Pass { body, skip: self.skip.as_ref().map(layer), adds: self.adds }
    }

    /// Cuts flat weights.
    fn split<'a>(&self, mut flat: &'a [f32]) -> Vec<&'a [f32]> {
        let mut take = |len: usize| {
            let (part, rest) = flat.split_at(len);
            flat = rest;
            part
        };
        self.body.iter().chain(&self.skip).flat_map(|layer| layer.lens()).map(&mut take).collect()
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

    fn forward(&self, x: &[f32], pass: &Pass<'_>, kept: &Kept) -> (CpuStorage, Shape) {
        let last = self.last();
        let (step, image) = (self.step(), last.out_height * last.out_row());
        let mut out = vec![0.0; last.batch * image];
        let steps = out.par_chunks_mut(step * image).zip(x.par_chunks(step * self.first().image()));
        let saved = steps.map_init(Vec::new, |buffer, (out, x)| {
            let saved = pass.forward(x, out, buffer);
            kept.is_some().then_some(saved)
        });
        let saved = saved.collect::<Vec<_>>().into_iter().flatten().collect();
        if let Some(kept) = kept {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        }
        (CpuStorage::F32(out), (last.batch, last.out_height, last.out_width, last.outputs).into())
    }

    /// The gradient of x if it is tracked, and the flat one of `trained` weights, none if that is 0.
    fn backward(
        &self,
        (x, out, dy): (&Tensor, &Tensor, &Tensor),
        mut pass: Pass<'_>,
        saved: &[Saved],
        trained: usize,
    ) -> Result<(Option<Tensor>, Vec<f32>)> {
        let dy = dy.contiguous()?;
        let (x_values, out_values, dy) = (Values::of(x)?, Values::of(out)?, Values::of(&dy)?);
        let for_x = x.track_op();
        pass.turn(for_x);
        let (step, steps) = (self.step(), self.last().batch.div_ceil(self.step()));
        let parts = if trained > 0 { (GRADIENT_MEMORY / (4 * trained)).clamp(2, PARTS) } else { steps };
        let per_part = steps.div_ceil(parts.max(1)).max(1);
        let (image, out_image) = (self.first().image(), self.last().out_height * self.last().out_row());
        let images = step * per_part;
        let part = |(dx, (((x, out), dy), saved)): Task<'_>| {
            let mut gradients = Gradients::new(trained);
            let mut dx = dx.chunks_mut(step * image);
            let read = x.chunks(step * image).zip(out.chunks(step * out_image));
            for (((x, out), dy), saved) in read.zip(dy.chunks(step * out_image)).zip(saved) {
                pass.backward((x, out, dy), saved, dx.next(), &mut gradients);
            }
            gradients.weights
        };
        let read = x_values.par_chunks(images * image).zip(out_values.par_chunks(images * out_image));
        let read = read.zip(dy.par_chunks(images * out_image)).zip(saved.par_chunks(per_part));
        let mut dx = vec![0.0; if for_x { x_values.len() } else { 0 }];
        let weight_grads: Vec<Vec<f32>> = if for_x {
            dx.par_chunks_mut(images * image).zip(read).map(part).collect()
        } else {
            read.map(|read| part((&mut [], read))).collect()
        };
        let dx = for_x.then(|| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
        Ok((dx, sum(weight_grads, trained)))
    }
}

/// The gradient of some images to write, and the images, their results, the results' gradients and what was kept to read.
type Task<'a> = (&'a mut [f32], (((&'a [f32], &'a [f32]), &'a [f32]), &'a [Saved]));

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let weights = self.weights.iter().map(Values::of).collect::<Result<Vec<_>>>()?;
        let pass = self.block.pass(weights.iter().map(|values| &**values));
        Ok(self.block.forward(slice(x, layout)?, &pass, &self.saved))
    }

    fn bwd(&self, x: &Tensor, out: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let Some(saved) = &self.saved else { return Ok(None) };
        let saved = saved.lock().unwrap_or_else(PoisonError::into_inner);
        let weights = self.weights.iter().map(Values::of).collect::<Result<Vec<_>>>()?;
        let pass = self.block.pass(weights.iter().map(|values| &**values));
        Ok(self.block.backward((x, out, dy), pass, &saved, 0)?.0)
    }
}

impl CustomOp2 for Trained {
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
        let pass = self.block.pass(self.block.split(slice(weights, weights_layout)?));
        Ok(self.block.forward(slice(x, x_layout)?, &pass, &self.saved))
    }

    fn bwd(&self, x: &Tensor, weights: &Tensor, out: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = &self.saved else { return Ok((None, None)) };
        let saved = saved.lock().unwrap_or_else(PoisonError::into_inner);
        let flat = Values::of(weights)?;
        let pass = self.block.pass(self.block.split(&flat));
        let (dx, dw) = self.block.backward((x, out, dy), pass, &saved, flat.len())?;
        Ok((dx, Some(Tensor::from_vec(dw, weights.shape(), weights.device())?)))
    }
}
