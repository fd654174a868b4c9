//! Layer normalisation over the last dimension.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::linear::column_sums;
use super::operations::fused;
use super::simd::{self, Kernel};
use super::storage::{PIECE, Values, slice, written};
use crate::profile;

/// (x - mean) / sqrt(variance + eps) over the last dimension, then * scale + bias if they are given.
///
/// Shapes: x `[.., width]`, scale and bias `[width]`, result as x.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn layer_norm(x: &Tensor, affine: Option<(&Tensor, &Tensor)>, eps: f32) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    if let Some((scale, bias)) = affine
        && (scale.dims() != [width] || bias.dims() != [width])
    {
        bail!("layer norm of {:?}: scale {:?}, bias {:?}", x.dims(), scale.dims(), bias.dims());
    }
    if width == 0 {
        bail!("layer norm of {:?}: the last dimension is empty", x.dims());
    }
    match affine {
        _ if !fused(x.device()) => plain(x, affine, eps),
        Some((scale, bias)) => {
            x.contiguous()?.apply_op3(&scale.contiguous()?, &bias.contiguous()?, Fused { width, eps })
        }
        None => x.contiguous()?.apply_op1(Fused { width, eps }),
    }
}

fn plain(x: &Tensor, affine: Option<(&Tensor, &Tensor)>, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    let normalised = centred.broadcast_div(&deviation)?;
    match affine {
        Some((scale, bias)) => normalised.broadcast_mul(scale)?.broadcast_add(bias),
        None => Ok(normalised),
    }
}

struct Fused {
    width: usize,
    eps: f32,
}

impl Fused {
    /// Numbers that a task takes: whole rows.
    fn chunk(&self) -> usize {
        PIECE.div_ceil(self.width) * self.width
    }

    fn forward(&self, x: &[f32], affine: Option<(&[f32], &[f32])>) -> CpuStorage {
        let [out] = written(x.len(), self.chunk(), |start, [out]| {
            simd::dispatch_kernel(Forward { norm: self, x: &x[start..][..out.len()], affine, out });
        });
        CpuStorage::F32(out)
    }

    /// The gradient of x.
    fn x_gradient(&self, x: &[f32], scale: Option<&[f32]>, dy: &[f32]) -> Vec<f32> {
        let [dx] = written(x.len(), self.chunk(), |start, [dx]| {
            let (x, dy) = (&x[start..][..dx.len()], &dy[start..][..dx.len()]);
            simd::dispatch_kernel(Backward { norm: self, x, scale, dy, dx });
        });
        dx
    }

    /// The gradients of scale and bias, one after the other.
    fn affine_gradient(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let chunk = self.chunk();
        let mut sums = vec![0.0; x.len().div_ceil(chunk) * 2 * self.width];
        let chunks = x.par_chunks(chunk).zip(dy.par_chunks(chunk));
        sums.par_chunks_mut(2 * self.width).zip(chunks).for_each(|(sums, (x, dy))| {
            let (scale_grad, bias_grad) = sums.split_at_mut(self.width);
            simd::dispatch_kernel(AffineBackward { norm: self, x, dy, scale_grad, bias_grad });
        });
        column_sums(&sums, 2 * self.width)
    }
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("layer norm").numbers(2 * layout.shape().elem_count());
        Ok((self.forward(slice(x, layout)?, None), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _span = profile::span("layer norm, backward").numbers(3 * grad.elem_count());
        let grad = grad.contiguous()?;
        let dx = self.x_gradient(&Values::of(x)?, None, &Values::of(&grad)?);
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("layer norm").numbers(2 * layout.shape().elem_count());
        let affine = Some((slice(scale, scale_layout)?, slice(bias, bias_layout)?));
        Ok((self.forward(slice(x, layout)?, affine), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("layer norm, backward").numbers(3 * grad.elem_count());
        let grad = grad.contiguous()?;
        let (x_values, dy) = (Values::of(x)?, Values::of(&grad)?);
        let x_grad = || {
            let dx = self.x_gradient(&x_values, Some(&Values::of(scale)?), &dy);
            Tensor::from_vec(dx, x.shape(), x.device())
        };
        let affine_grad = || {
            let sums = self.affine_gradient(&x_values, &dy);
            Tensor::from_vec(sums, (2, self.width), x.device())
        };
        let sums = (scale.track_op() || bias.track_op()).then(affine_grad).transpose()?;
        let sum = |of: &Tensor, i| sums.as_ref().filter(|_| of.track_op()).map(|sums| sums.get(i)).transpose();
        Ok((x.track_op().then(x_grad).transpose()?, sum(scale, 0)?, sum(bias, 1)?))
    }
}

/// Mean and 1 / deviation of a row.
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let mean = simd::sum(x) / x.len() as f32;
    (mean, 1.0 / (simd::squares_about(x, mean) / x.len() as f32 + eps).sqrt())
}

struct Forward<'a> {
    norm: &'a Fused,
    x: &'a [f32],
    affine: Option<(&'a [f32], &'a [f32])>,
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { norm, x, affine, out } = self;
        for (out, x) in out.chunks_exact_mut(norm.width).zip(x.chunks_exact(norm.width)) {
            let (mean, inverse) = statistics(x, norm.eps);
            match affine {
                Some((scale, bias)) => {
                    for (((out, x), scale), bias) in out.iter_mut().zip(x).zip(scale).zip(bias) {
                        *out = (x - mean) * inverse * scale + bias;
                    }
                }
                None => {
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = (x - mean) * inverse;
                    }
                }
            }
        }
    }
}

struct Backward<'a> {
    norm: &'a Fused,
    x: &'a [f32],
    scale: Option<&'a [f32]>,
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { norm: &Fused { width, eps }, x, scale, dy, dx } = self;
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for ((x, dy), dx) in rows {
            let (mean, inverse) = statistics(x, eps);
            match scale {
                Some(scale) => {
                    for ((dx, dy), scale) in dx.iter_mut().zip(dy).zip(scale) {
                        *dx = dy * scale;
                    }
                }
                None => dx.copy_from_slice(dy),
            }
            let centre = simd::sum(dx) / width as f32;
            let along = simd::dot_about(dx, x, mean) * inverse / width as f32;
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = inverse * (*dx - centre - (x - mean) * inverse * along);
            }
        }
    }
}

struct AffineBackward<'a> {
    norm: &'a Fused,
    x: &'a [f32],
    dy: &'a [f32],
    /// Added to.
    scale_grad: &'a mut [f32],
    /// Added to.
    bias_grad: &'a mut [f32],
}

impl Kernel for AffineBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { norm: &Fused { width, eps }, x, dy, scale_grad, bias_grad } = self;
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            let (mean, inverse) = statistics(x, eps);
            let sums = scale_grad.iter_mut().zip(bias_grad.iter_mut());
            for ((scale, bias), (x, dy)) in sums.zip(x.iter().zip(dy)) {
                *scale += dy * ((x - mean) * inverse);
                *bias += dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;

    #[test]
    fn agrees_with_plain_operations() {
        for shape in [&[2, 3, 21][..], &[900, 40], &[5]] {
            let width = *shape.last().unwrap();
            let inputs = [random("x", shape), random("scale", &[width]), random("bias", &[width])];
            agrees(
                &inputs,
                |t| layer_norm(&t[0], Some((&t[1], &t[2])), 1e-3),
                |t| plain(&t[0], Some((&t[1], &t[2])), 1e-3),
            );
            agrees(&inputs[..1], |t| layer_norm(&t[0], None, 1e-6), |t| plain(&t[0], None, 1e-6));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, four, five) = (random("x", &[2, 3, 4]), random("four", &[4]), random("five", &[5]));
        assert!(layer_norm(&x, Some((&four, &five)), 1e-6).is_err());
        assert!(layer_norm(&random("x", &[2, 0]), None, 1e-6).is_err());
    }
}
