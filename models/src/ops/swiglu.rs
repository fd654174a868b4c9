//! SiLU(gate) * value, the activation of SwiGLU.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::simd;
use super::storage::{Values, slice};

/// Elements that one task works on.
const CHUNK: usize = 1 << 14;

/// SiLU(gate) * value for tensors of the same shape.
///
/// # Errors
/// Shapes that differ.
pub fn swiglu(gate: &Tensor, value: &Tensor) -> Result<Tensor> {
    if gate.dims() != value.dims() {
        candle_core::bail!("swiglu: gate {:?}, value {:?}", gate.dims(), value.dims());
    }
    if gate.device().is_cpu() { gate.contiguous()?.apply_op2(&value.contiguous()?, Swiglu) } else { plain(gate, value) }
}

fn plain(gate: &Tensor, value: &Tensor) -> Result<Tensor> {
    gate.silu()? * value
}

/// out = SiLU(gate) * value.
#[inline(always)]
pub(super) fn activate(gate: &[f32], value: &[f32], out: &mut [f32]) {
    for ((out, &g), &v) in out.iter_mut().zip(gate).zip(value) {
        *out = g * simd::sigmoid(g) * v;
    }
}

/// Gradients of gate and value from the gradient `dy` of the result.
#[inline(always)]
pub(super) fn activate_back((gate, value, dy): (&[f32], &[f32], &[f32]), dg: &mut [f32], dv: &mut [f32]) {
    for ((dg, dv), ((&g, &v), &dy)) in dg.iter_mut().zip(dv).zip(gate.iter().zip(value).zip(dy)) {
        let sigmoid = simd::sigmoid(g);
        *dg = dy * v * sigmoid * (1.0 + g * (1.0 - sigmoid));
        *dv = dy * g * sigmoid;
    }
}

struct Swiglu;

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        layout: &Layout,
        value: &CpuStorage,
        other: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, value) = (slice(gate, layout)?, slice(value, other)?);
        let mut out = vec![0.0; gate.len()];
        out.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK)).zip(value.par_chunks(CHUNK)).for_each(
            |((out, gate), value)| {
                simd::dispatch_call(|out| activate(gate, value, out), out);
            },
        );
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        value: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (g, v, dy) = (Values::of(gate)?, Values::of(value)?, Values::of(&grad)?);
        let (mut dg, mut dv) = (vec![0.0; g.len()], vec![0.0; g.len()]);
        dg.par_chunks_mut(CHUNK)
            .zip(dv.par_chunks_mut(CHUNK))
            .zip(g.par_chunks(CHUNK).zip(v.par_chunks(CHUNK)).zip(dy.par_chunks(CHUNK)))
            .for_each(|((dg, dv), ((g, v), dy))| {
                simd::dispatch_call(|(dg, dv)| activate_back((g, v, dy), dg, dv), (dg, dv));
            });
        let device = gate.device();
        Ok((Some(Tensor::from_vec(dg, gate.shape(), device)?), Some(Tensor::from_vec(dv, value.shape(), device)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;

    #[test]
    fn agrees_with_plain_operations() {
        let inputs = [random("gate", &[3, 7]), random("value", &[3, 7])];
        agrees(&inputs, |t| swiglu(&t[0], &t[1]), |t| plain(&t[0], &t[1]));
        assert!(swiglu(&inputs[0], &random("value", &[7, 3])).is_err());
    }
}
