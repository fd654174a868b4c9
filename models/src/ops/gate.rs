//! x + gate * y, the residual connection of adaLN-zero.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::operations::{fused, kernels};
use super::simd::{self, Kernel};
use super::storage::{PIECE, Values, slice, written};
use super::{gpu, tensors};
use crate::profile;

/// x + gate * y, where every token of an image shares the image's gate.
///
/// Shapes: x and y `[batch, tokens, hidden]`, modulation `[batch, width]` whose columns `offset..offset + hidden` are the gate.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn gated_add(x: &Tensor, y: &Tensor, modulation: &Tensor, offset: usize) -> Result<Tensor> {
    let (batch, tokens, hidden) = x.dims3()?;
    let (rows, width) = modulation.dims2()?;
    if x.dims() != y.dims() || rows != batch || offset + hidden > width {
        candle_core::bail!("gated add: {:?} + {:?} by {:?} at {offset}", x.dims(), y.dims(), modulation.dims());
    }
    if kernels(x.device()) {
        gpu::gated_add(x, y, modulation, offset)
    } else if fused(x.device()) {
        let op = GatedAdd { tokens, hidden, width, offset };
        x.contiguous()?.apply_op3(&y.contiguous()?, &modulation.contiguous()?, op)
    } else {
        tensors::gated_add(x, y, modulation, offset)
    }
}

#[cfg(test)]
fn plain(x: &Tensor, y: &Tensor, modulation: &Tensor, offset: usize) -> Result<Tensor> {
    let gate = modulation.narrow(1, offset, x.dim(2)?)?.unsqueeze(1)?;
    x + y.broadcast_mul(&gate)?
}

struct GatedAdd {
    tokens: usize,
    hidden: usize,
    width: usize,
    offset: usize,
}

impl GatedAdd {
    /// Numbers of a piece: whole tokens.
    fn piece(&self) -> usize {
        PIECE.div_ceil(self.hidden.max(1)) * self.hidden
    }

    /// The gate of the token that begins at `start`.
    #[inline(always)]
    fn gate<'a>(&self, modulation: &'a [f32], start: usize) -> &'a [f32] {
        &modulation[start / (self.tokens * self.hidden) * self.width + self.offset..][..self.hidden]
    }
}

impl CustomOp3 for GatedAdd {
    fn name(&self) -> &'static str {
        "gated-add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        modulation: &CpuStorage,
        modulation_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("gated add").numbers(3 * x_layout.shape().elem_count());
        let (x, y, modulation) = (slice(x, x_layout)?, slice(y, y_layout)?, slice(modulation, modulation_layout)?);
        let [out] = written(x.len(), self.piece(), |start, [out]| {
            let x = Some(&x[start..][..out.len()]);
            simd::dispatch_kernel(Gate { op: self, start, x, y: &y[start..][..out.len()], modulation, out });
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        modulation: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("gated add, backward").numbers(3 * grad.elem_count());
        let grad = grad.contiguous()?;
        let (y_values, modulation_values, dy) = (Values::of(y)?, Values::of(modulation)?, Values::of(&grad)?);
        let (y_values, modulation_values, dy): (&[f32], &[f32], &[f32]) = (&y_values, &modulation_values, &dy);
        let y_grad = || {
            let [out] = written(dy.len(), self.piece(), |start, [out]| {
                let y = &dy[start..][..out.len()];
                simd::dispatch_kernel(Gate { op: self, start, x: None, y, modulation: modulation_values, out });
            });
            Tensor::from_vec(out, y.shape(), y.device())
        };
        let gate_grad = || {
            let mut sums = vec![0.0; modulation_values.len()];
            let image = self.tokens * self.hidden;
            if image > 0 {
                let images = y_values.par_chunks(image).zip(dy.par_chunks(image));
                sums.par_chunks_mut(self.width).zip(images).for_each(|(sums, (y, dy))| {
                    let sums = &mut sums[self.offset..][..self.hidden];
                    simd::dispatch_kernel(Products { y, dy, sums });
                });
            }
            Tensor::from_vec(sums, modulation.shape(), modulation.device())
        };
        Ok((
            x.track_op().then(|| grad.clone()),
            y.track_op().then(y_grad).transpose()?,
            modulation.track_op().then(gate_grad).transpose()?,
        ))
    }
}

/// out = x + gate * y, or gate * y, for the tokens from `start`.
struct Gate<'a> {
    op: &'a GatedAdd,
    start: usize,
    x: Option<&'a [f32]>,
    y: &'a [f32],
    modulation: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { op, start, x, y, modulation, out } = self;
        let hidden = op.hidden;
        let tokens = out.chunks_exact_mut(hidden).zip(y.chunks_exact(hidden));
        for (token, (out, y)) in tokens.enumerate() {
            let gate = op.gate(modulation, start + token * hidden);
            if let Some(x) = x {
                let x = &x[token * hidden..][..hidden];
                for (((out, x), y), gate) in out.iter_mut().zip(x).zip(y).zip(gate) {
                    *out = x + gate * y;
                }
            } else {
                for ((out, y), gate) in out.iter_mut().zip(y).zip(gate) {
                    *out = gate * y;
                }
            }
        }
    }
}

/// Adds dy * y of every token of an image to `sums`.
struct Products<'a> {
    y: &'a [f32],
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let hidden = self.sums.len();
        for (y, dy) in self.y.chunks_exact(hidden).zip(self.dy.chunks_exact(hidden)) {
            for ((sum, y), dy) in self.sums.iter_mut().zip(y).zip(dy) {
                *sum += dy * y;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn the_gate_is_the_images_own() {
        let tensor =
            |values: &[f32], shape: (usize, usize, usize)| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let (x, y) = (tensor(&[1.0, 2.0, 3.0, 4.0], (2, 1, 2)), tensor(&[1.0; 4], (2, 1, 2)));
        let modulation = tensor(&[9.0, 0.5, 1.0, 9.0, 2.0, 3.0], (2, 3, 1)).squeeze(2).unwrap();
        let found = gated_add(&x, &y, &modulation, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found, [1.5, 3.0, 5.0, 7.0]);
        assert!(gated_add(&x, &y, &modulation, 2).is_err());
    }

    #[test]
    fn agrees_with_plain_operations() {
        for [batch, tokens, hidden] in [[2, 3, 21], [1, 1, 1], [3, 700, 37]] {
            let shape = [batch, tokens, hidden];
            let inputs = [random("x", &shape), random("y", &shape), random("modulation", &[batch, 2 * hidden + 1])];
            let twin = |t: &[Tensor]| plain(&t[0], &t[1], &t[2], hidden);
            agrees(&inputs, |t| gated_add(&t[0], &t[1], &t[2], hidden), twin);
            agrees(&inputs, |t| tensors::gated_add(&t[0], &t[1], &t[2], hidden), twin);
        }
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        for shape in [[2, 0, 3], [0, 2, 3], [2, 3, 0]] {
            let x = zeros(&shape);
            assert_eq!(gated_add(&x, &x, &zeros(&[shape[0], 4]), 1).unwrap().dims(), shape);
        }
    }
}
