//! x + gate * y, the residual connection of adaLN-zero.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::simd;
use super::storage::{Values, slice};

/// x + gate * y, where every token of an image shares the image's gate.
///
/// Shapes: x and y `[batch, tokens, hidden]`, modulation `[batch, width]` whose columns `offset..offset + hidden` are the gate.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn gated_add(x: &Tensor, y: &Tensor, modulation: &Tensor, offset: usize) -> Result<Tensor> {
    let (batch, _, hidden) = x.dims3()?;
    let (rows, width) = modulation.dims2()?;
    if x.dims() != y.dims() || rows != batch || offset + hidden > width {
        candle_core::bail!("gated add: {:?} + {:?} by {:?} at {offset}", x.dims(), y.dims(), modulation.dims());
    }
    if x.device().is_cpu() {
        x.contiguous()?.apply_op3(&y.contiguous()?, &modulation.contiguous()?, GatedAdd { offset })
    } else {
        plain(x, y, modulation, offset)
    }
}

fn plain(x: &Tensor, y: &Tensor, modulation: &Tensor, offset: usize) -> Result<Tensor> {
    let gate = modulation.narrow(1, offset, x.dim(2)?)?.unsqueeze(1)?;
    x + y.broadcast_mul(&gate)?
}

struct GatedAdd {
    offset: usize,
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
        let (_, tokens, hidden) = x_layout.shape().dims3()?;
        let width = modulation_layout.dims()[1];
        let (x, y, modulation) = (slice(x, x_layout)?, slice(y, y_layout)?, slice(modulation, modulation_layout)?);
        let mut out = vec![0.0; x.len()];
        let image = tokens * hidden;
        out.par_chunks_mut(image)
            .zip(x.par_chunks(image).zip(y.par_chunks(image)))
            .zip(modulation.par_chunks(width))
            .for_each(|((out, (x, y)), modulation)| {
                let gate = &modulation[self.offset..self.offset + hidden];
                simd::dispatch(|| {
                    for ((out, x), y) in
                        out.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)).zip(y.chunks_exact(hidden))
                    {
                        for (((out, x), y), gate) in out.iter_mut().zip(x).zip(y).zip(gate) {
                            *out = x + gate * y;
                        }
                    }
                });
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
        let grad = grad.contiguous()?;
        let (_, tokens, hidden) = x.dims3()?;
        let width = modulation.dim(1)?;
        let (y_values, modulation_values, dy) = (Values::of(y)?, Values::of(modulation)?, Values::of(&grad)?);
        let image = tokens * hidden;
        let (mut y_grad, mut modulation_grad) = (vec![0.0; y_values.len()], vec![0.0; modulation_values.len()]);
        y_grad
            .par_chunks_mut(image)
            .zip(modulation_grad.par_chunks_mut(width))
            .zip(y_values.par_chunks(image).zip(dy.par_chunks(image)))
            .zip(modulation_values.par_chunks(width))
            .for_each(|(((y_grad, gate_grad), (y, dy)), modulation)| {
                let gate = &modulation[self.offset..self.offset + hidden];
                let gate_grad = &mut gate_grad[self.offset..self.offset + hidden];
                simd::dispatch(|| {
                    let rows = y_grad.chunks_exact_mut(hidden).zip(y.chunks_exact(hidden)).zip(dy.chunks_exact(hidden));
                    for ((y_grad, y), dy) in rows {
                        for i in 0..hidden {
                            y_grad[i] = gate[i] * dy[i];
                            gate_grad[i] += y[i] * dy[i];
                        }
                    }
                });
            });
        let device = x.device();
        let y_grad = Tensor::from_vec(y_grad, y.shape(), device)?;
        let modulation_grad = Tensor::from_vec(modulation_grad, modulation.shape(), device)?;
        drop((y_values, modulation_values, dy));
        Ok((Some(grad), Some(y_grad), Some(modulation_grad)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;

    #[test]
    fn agrees_with_plain_operations() {
        let inputs = [random("x", &[2, 3, 5]), random("y", &[2, 3, 5]), random("modulation", &[2, 12])];
        agrees(&inputs, |t| gated_add(&t[0], &t[1], &t[2], 6), |t| plain(&t[0], &t[1], &t[2], 6));
        assert!(gated_add(&inputs[0], &inputs[1], &inputs[2], 8).is_err());
    }
}
