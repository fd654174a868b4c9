//! RMSNorm and LayerNorm with learned gain and adaLN modulation in one pass.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use drifting_spec::Norm;
use rayon::prelude::*;

use super::EPSILON;
use super::linear::column_sums;
use super::operations::{fused, kernels};
use super::simd::{self, Kernel};
use super::storage::{PIECE, Values, slice, written};
use super::{gpu, tensors};
use crate::profile;

/// The columns of a modulation tensor that hold shift and scale; each is as wide as the hidden layer.
#[derive(Clone, Copy, Debug)]
pub struct Modulation {
    /// First column of the shift.
    pub shift: usize,
    /// First column of the scale.
    pub scale: usize,
}

/// affine(normalised x) * (1 + scale) + shift over the last dimension.
///
/// Shapes: x `[batch, tokens, hidden]`, affine `[1, hidden]` (gain) or `[2, hidden]` (gain, bias), modulation
/// `[batch, width]`, whose row is shared by all tokens of an image.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn norm(kind: Norm, x: &Tensor, affine: &Tensor, modulation: &Tensor, columns: Modulation) -> Result<Tensor> {
    let (batch, _, hidden) = x.dims3()?;
    let ((parts, affine_width), (rows, width)) = (affine.dims2()?, modulation.dims2()?);
    let fits = columns.shift.max(columns.scale) + hidden <= width;
    if !(1..=2).contains(&parts) || affine_width != hidden || rows != batch || !fits {
        candle_core::bail!("norm of {:?}: affine {:?}, modulation {:?}", x.dims(), affine.dims(), modulation.dims());
    }
    if kernels(x.device()) {
        gpu::norm(kind, x, affine, modulation, columns)
    } else if fused(x.device()) {
        let (affine, modulation) = (affine.contiguous()?, modulation.contiguous()?);
        x.contiguous()?.apply_op3(&affine, &modulation, ModulatedNorm { kind, columns })
    } else {
        tensors::norm(kind, x, affine, modulation, columns)
    }
}

#[cfg(test)]
fn plain(kind: Norm, x: &Tensor, affine: &Tensor, modulation: &Tensor, columns: Modulation) -> Result<Tensor> {
    use candle_core::D;

    let hidden = x.dim(2)?;
    let centred = match kind {
        Norm::Rms => x.clone(),
        Norm::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
    };
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(EPSILON))?.sqrt()?;
    let mut y = centred.broadcast_div(&deviation)?.broadcast_mul(&affine.get(0)?)?;
    if affine.dim(0)? == 2 {
        y = y.broadcast_add(&affine.get(1)?)?;
    }
    let row = |offset| modulation.narrow(1, offset, hidden)?.unsqueeze(1);
    y.broadcast_mul(&(row(columns.scale)? + 1.0)?)?.broadcast_add(&row(columns.shift)?)
}

/// The norm of one image after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModulatedNorm {
    pub(super) kind: Norm,
    pub(super) columns: Modulation,
}

impl ModulatedNorm {
    /// Mean to subtract and factor to multiply with: the normalised x is (x - mean) * factor.
    #[inline(always)]
    fn statistics(&self, x: &[f32]) -> (f32, f32) {
        let width = x.len() as f32;
        let mean = match self.kind {
            Norm::Rms => 0.0,
            Norm::Layer => simd::sum(x) / width,
        };
        // Two passes: the mean of squares minus the square of the mean would cancel.
        (mean, 1.0 / (simd::squares_about(x, mean) / width + EPSILON).sqrt())
    }
}

impl CustomOp3 for ModulatedNorm {
    fn name(&self) -> &'static str {
        "modulated-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
        modulation: &CpuStorage,
        modulation_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("norm").numbers(2 * x_layout.shape().elem_count());
        let (_, tokens, hidden) = x_layout.shape().dims3()?;
        let (x, affine) = (slice(x, x_layout)?, slice(affine, affine_layout)?);
        let modulation = slice(modulation, modulation_layout)?;
        let [out] = written(x.len(), PIECE.div_ceil(hidden.max(1)) * hidden, |start, [out]| {
            simd::dispatch_kernel(Forward { norm: self, sizes: (tokens, hidden), start, x, affine, modulation, out });
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        modulation: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("norm, backward").numbers(3 * grad.elem_count());
        let grad = grad.contiguous()?;
        let (batch, tokens, hidden) = x.dims3()?;
        let ((parts, _), width) = (affine.dims2()?, modulation.dim(1)?);
        let (x_values, affine_values) = (Values::of(x)?, Values::of(affine)?);
        let (modulation_values, dy) = (Values::of(modulation)?, Values::of(&grad)?);
        let affine_values: &[f32] = &affine_values;
        let image = tokens * hidden;
        let mut x_grad = vec![0.0; x_values.len()];
        let mut modulation_grad = vec![0.0; modulation_values.len()];
        let mut affine_grad = vec![0.0; batch * parts * hidden];
        let images = x_values.par_chunks(image).zip(dy.par_chunks(image)).zip(modulation_values.par_chunks(width));
        x_grad
            .par_chunks_mut(image)
            .zip(modulation_grad.par_chunks_mut(width).zip(affine_grad.par_chunks_mut(parts * hidden)))
            .zip(images)
            .for_each(|((dx, (modulation_grad, affine_grad)), ((x, dy), modulation))| {
                let image = Image { x, dy, affine: affine_values, scale: &modulation[self.columns.scale..][..hidden] };
                let gradients = ImageGradients { x: dx, modulation: modulation_grad, affine: affine_grad };
                simd::dispatch_kernel(Backward(self, image, gradients));
            });
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(x_grad, x.shape(), device)?),
            Some(Tensor::from_vec(column_sums(&affine_grad, parts * hidden), affine.shape(), device)?),
            Some(Tensor::from_vec(modulation_grad, modulation.shape(), device)?),
        ))
    }
}

struct Forward<'a> {
    norm: &'a ModulatedNorm,
    /// Tokens of an image, numbers of a token.
    sizes: (usize, usize),
    /// Where `out` begins.
    start: usize,
    /// Of all images, as `modulation`.
    x: &'a [f32],
    affine: &'a [f32],
    modulation: &'a [f32],
    /// Whole tokens.
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { norm, sizes: (tokens, hidden), mut start, x, affine, modulation, out } = self;
        let image = tokens * hidden;
        let width = modulation.len() / (x.len() / image);
        let mut rest = out;
        while !rest.is_empty() {
            let (out, behind) = rest.split_at_mut(rest.len().min(image - start % image));
            let row = (affine, &modulation[start / image * width..][..width]);
            norm.forward(hidden, &x[start..][..out.len()], row, out);
            start += out.len();
            rest = behind;
        }
    }
}

struct Backward<'a>(&'a ModulatedNorm, Image<'a>, ImageGradients<'a>);

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.0.backward(&self.1, self.2);
    }
}

/// What the backward pass of one image reads.
pub(super) struct Image<'a> {
    /// `[tokens, hidden]`.
    pub(super) x: &'a [f32],
    /// Gradient of the result, `[tokens, hidden]`.
    pub(super) dy: &'a [f32],
    /// Gain and, if there is one, bias.
    pub(super) affine: &'a [f32],
    /// The image's scale, `[hidden]`.
    pub(super) scale: &'a [f32],
}

/// What the backward pass of one image writes.
pub(super) struct ImageGradients<'a> {
    /// `[tokens, hidden]`, overwritten.
    pub(super) x: &'a mut [f32],
    /// The image's row, whose shift and scale are overwritten.
    pub(super) modulation: &'a mut [f32],
    /// Added to.
    pub(super) affine: &'a mut [f32],
}

impl ModulatedNorm {
    /// The norm of tokens of one image, `[.., hidden]`.
    #[inline(always)]
    pub(super) fn forward(&self, hidden: usize, x: &[f32], (affine, modulation): (&[f32], &[f32]), out: &mut [f32]) {
        let (gain, bias) = affine.split_at(hidden);
        let shift = &modulation[self.columns.shift..][..hidden];
        let scale = &modulation[self.columns.scale..][..hidden];
        // y = normalised * factor + offset, the same for all tokens of the image.
        let factor: Vec<f32> = gain.iter().zip(scale).map(|(gain, scale)| gain * (1.0 + scale)).collect();
        let mut offset = shift.to_vec();
        offset.iter_mut().zip(bias).zip(scale).for_each(|((offset, bias), scale)| *offset += bias * (1.0 + scale));
        for (out, x) in out.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)) {
            let (mean, inverse) = self.statistics(x);
            for (((out, x), factor), offset) in out.iter_mut().zip(x).zip(&factor).zip(&offset) {
                *out = (x - mean) * inverse * factor + offset;
            }
        }
    }

    /// Adds the gradients of one image.
    #[inline(always)]
    pub(super) fn backward(&self, image: &Image<'_>, gradients: ImageGradients<'_>) {
        let ImageGradients { x: dx, modulation: modulation_grad, affine: affine_grad } = gradients;
        let hidden = image.scale.len();
        let (gain, bias) = image.affine.split_at(hidden);
        let factor: Vec<f32> = gain.iter().zip(image.scale).map(|(gain, scale)| gain * (1.0 + scale)).collect();
        // Sums over the tokens of dy and of dy times the normalised x, from which every other gradient follows.
        let (mut dy_sum, mut product_sum) = (vec![0.0; hidden], vec![0.0; hidden]);
        let rows = image.x.chunks_exact(hidden).zip(image.dy.chunks_exact(hidden)).zip(dx.chunks_exact_mut(hidden));
        for ((x, dy), dx) in rows {
            let (mean, inverse) = self.statistics(x);
            let sums = dy_sum.iter_mut().zip(&mut product_sum);
            let read = x.iter().zip(dy).zip(&factor);
            for ((dx, (dy_sum, product_sum)), ((x, dy), factor)) in dx.iter_mut().zip(sums).zip(read) {
                *dy_sum += dy;
                *product_sum += dy * ((x - mean) * inverse);
                *dx = dy * factor;
            }
            let (centre, along) = match self.kind {
                Norm::Rms => (0.0, simd::dot(dx, x) * inverse / hidden as f32),
                Norm::Layer => (simd::sum(dx) / hidden as f32, simd::dot_about(dx, x, mean) * inverse / hidden as f32),
            };
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = inverse * (*dx - centre - (x - mean) * inverse * along);
            }
        }
        for i in 0..hidden {
            modulation_grad[self.columns.shift + i] = dy_sum[i];
            modulation_grad[self.columns.scale + i] = product_sum[i] * gain[i];
            affine_grad[i] += product_sum[i] * (1.0 + image.scale[i]);
        }
        for i in 0..bias.len() {
            modulation_grad[self.columns.scale + i] += dy_sum[i] * bias[i];
            affine_grad[hidden + i] += dy_sum[i] * (1.0 + image.scale[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;

    #[test]
    fn agrees_with_plain_operations() {
        let columns = Modulation { shift: 3, scale: 25 };
        for kind in [Norm::Rms, Norm::Layer] {
            for parts in [1, 2] {
                let inputs = [random("x", &[2, 3, 21]), random("affine", &[parts, 21]), random("modulation", &[2, 46])];
                let twin = |t: &[Tensor]| plain(kind, &t[0], &t[1], &t[2], columns);
                agrees(&inputs, |t| norm(kind, &t[0], &t[1], &t[2], columns), twin);
                agrees(&inputs, |t| tensors::norm(kind, &t[0], &t[1], &t[2], columns), twin);
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (x, affine) = (random("x", &[2, 3, 4]), random("affine", &[1, 4]));
        let past_the_end = Modulation { shift: 0, scale: 5 };
        assert!(norm(Norm::Rms, &x, &affine, &random("modulation", &[2, 8]), past_the_end).is_err());
    }
}
