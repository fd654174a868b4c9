//! y = x W^T + b in one matrix product, with its three gradients.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::matmul::{Matrix, Threads, matmul};
use super::operations::fused;
use super::simd;
use super::storage::{Values, slice};
use super::tensors;
use crate::profile;

/// y = x W^T + b.
///
/// Shapes: x `[.., in]`, weight `[out, in]`, bias `[out]`, result `[.., out]`.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    if x.dims().last() != Some(&inner) || bias.dims() != [out] {
        candle_core::bail!("linear {out}x{inner}: input {:?}, bias {:?}", x.dims(), bias.dims());
    }
    if fused(x.device()) {
        x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear)
    } else {
        tensors::linear::linear(x, weight, bias)
    }
}

#[cfg(test)]
fn plain(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.broadcast_matmul(&weight.t()?.contiguous()?)?.broadcast_add(bias)
}

struct Linear;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("linear");
        let (out, inner) = weight_layout.shape().dims2()?;
        let (x, weight, bias) = (slice(x, x_layout)?, slice(weight, weight_layout)?, slice(bias, bias_layout)?);
        let rows = x.len() / inner;
        let mut y = vec![0.0; rows * out];
        matmul(&mut y, Matrix::new(x, rows, inner), Matrix::new(weight, out, inner).t(), 1.0, Threads::All);
        y.par_chunks_mut(out * 64).for_each(|rows| {
            simd::dispatch(|| {
                for row in rows.chunks_exact_mut(out) {
                    row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
                }
            });
        });
        let mut dims = x_layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = out;
        }
        Ok((CpuStorage::F32(y), dims.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("linear, backward");
        let grad = grad.contiguous()?;
        let (out, inner) = weight.dims2()?;
        let (grad_values, weight_values, x_values) = (Values::of(&grad)?, Values::of(weight)?, Values::of(x)?);
        let rows = x_values.len() / inner;
        let dy = Matrix::new(&grad_values, rows, out);
        let mut dx = vec![0.0; rows * inner];
        matmul(&mut dx, dy, Matrix::new(&weight_values, out, inner), 1.0, Threads::All);
        let mut dw = vec![0.0; out * inner];
        matmul(&mut dw, dy.t(), Matrix::new(&x_values, rows, inner), 1.0, Threads::All);
        let db = column_sums(&grad_values, out);
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), device)?),
            Some(Tensor::from_vec(dw, weight.shape(), device)?),
            Some(Tensor::from_vec(db, out, device)?),
        ))
    }
}

/// Sums the rows of a row-major matrix in a fixed order.
pub(super) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = values
        .par_chunks(columns * 512)
        .map(|rows| {
            simd::dispatch(|| {
                let mut sums = vec![0.0; columns];
                for row in rows.chunks_exact(columns) {
                    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
                sums
            })
        })
        .collect();
    let mut total = vec![0.0; columns];
    for sums in partial {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;

    #[test]
    fn agrees_with_plain_operations() {
        for shape in [&[5, 6][..], &[2, 3, 6], &[1, 6]] {
            let inputs = [random("x", shape), random("w", &[4, 6]), random("b", &[4])];
            agrees(&inputs, |t| linear(&t[0], &t[1], &t[2]), |t| plain(&t[0], &t[1], &t[2]));
            agrees(&inputs, |t| tensors::linear::linear(&t[0], &t[1], &t[2]), |t| plain(&t[0], &t[1], &t[2]));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(linear(&random("x", &[5, 7]), &random("w", &[4, 6]), &random("b", &[4])).is_err());
        assert!(linear(&random("x", &[5, 6]), &random("w", &[4, 6]), &random("b", &[5])).is_err());
    }
}
