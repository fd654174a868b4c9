//! Layer normalisation over the last dimension.

use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::linear::column_sums;
use super::simd::{self, Kernel};
use super::storage::{Values, slice};
use crate::profile;

/// Numbers that one task works on.
const CHUNK: usize = 1 << 14;

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
        _ if !x.device().is_cpu() => plain(x, affine, eps),
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
        CHUNK.div_ceil(self.width) * self.width
    }

    fn forward(&self, x: &[f32], affine: Option<(&[f32], &[f32])>) -> CpuStorage {
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(self.chunk()).zip(x.par_chunks(self.chunk())).for_each(|(out, x)| {
            simd::dispatch_kernel(Forward { norm: self, x, affine, out });
        });
        CpuStorage::F32(out)
    }

    /// The gradient of x, and those of scale and bias one after the other.
    fn backward(&self, x: &[f32], scale: Option<&[f32]>, dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let chunk = self.chunk();
        let mut x_grad = vec![0.0; x.len()];
        let mut affine_grad = vec![0.0; x.len().div_ceil(chunk) * 2 * self.width];
        x_grad
            .par_chunks_mut(chunk)
            .zip(affine_grad.par_chunks_mut(2 * self.width))
            .zip(x.par_chunks(chunk).zip(dy.par_chunks(chunk)))
            .for_each(|((dx, affine_grad), (x, dy))| {
                simd::dispatch_kernel(Backward { norm: self, x, scale, dy, dx, affine_grad });
            });
        (x_grad, column_sums(&affine_grad, 2 * self.width))
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
        let (dx, _) = self.backward(&Values::of(x)?, None, &Values::of(&grad)?);
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
        let (dx, sums) = self.backward(&Values::of(x)?, Some(&Values::of(scale)?), &Values::of(&grad)?);
        let sums = Tensor::from_vec(sums, (2, self.width), x.device())?;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            scale.track_op().then(|| sums.get(0)).transpose()?,
            bias.track_op().then(|| sums.get(1)).transpose()?,
        ))
    }
}

/// Mean and 1 / deviation of a row.
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let mean = simd::sum(x) / x.len() as f32;
    let mut lanes = [0.0f32; simd::LANES];
    for chunk in x.chunks(simd::LANES) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += (x - mean) * (x - mean);
        }
    }
    (mean, 1.0 / (lanes.iter().sum::<f32>() / x.len() as f32 + eps).sqrt())
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
            out.iter_mut().zip(x).for_each(|(out, x)| *out = (x - mean) * inverse);
            if let Some((scale, bias)) = affine {
                for ((out, scale), bias) in out.iter_mut().zip(scale).zip(bias) {
                    *out = *out * scale + bias;
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
    /// Gradients of scale and bias, zero before; not computed without a scale.
    affine_grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { norm: &Fused { width, eps }, x, scale, dy, dx, affine_grad } = self;
        let (scale_grad, bias_grad) = affine_grad.split_at_mut(width);
        let mut normalised = vec![0.0; width];
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for ((x, dy), dx) in rows {
            let (mean, inverse) = statistics(x, eps);
            normalised.iter_mut().zip(x).for_each(|(normalised, x)| *normalised = (x - mean) * inverse);
            dx.copy_from_slice(dy);
            if let Some(scale) = scale {
                for i in 0..width {
                    scale_grad[i] += dy[i] * normalised[i];
                    bias_grad[i] += dy[i];
                    dx[i] *= scale[i];
                }
            }
            let (centre, along) = (simd::sum(dx) / width as f32, simd::dot(dx, &normalised) / width as f32);
            for (dx, normalised) in dx.iter_mut().zip(&normalised) {
                *dx = inverse * (*dx - centre - normalised * along);
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
