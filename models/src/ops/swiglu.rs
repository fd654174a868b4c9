//! SiLU(gate) * value, the activation of SwiGLU.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::operations::{fused, kernels};
use super::simd::{self, Kernel};
use super::storage::{PIECE, Values, slice, written};
use super::{gpu, tensors};
use crate::profile;

/// SiLU(gate) * value for tensors of the same shape.
///
/// # Errors
/// Shapes that differ.
pub fn swiglu(gate: &Tensor, value: &Tensor) -> Result<Tensor> {
    if gate.dims() != value.dims() {
        candle_core::bail!("swiglu: gate {:?}, value {:?}", gate.dims(), value.dims());
    }
    if kernels(gate.device()) {
        gpu::swiglu(gate, value)
    } else if fused(gate.device()) {
        gate.contiguous()?.apply_op2(&value.contiguous()?, SwiGlu)
    } else {
        tensors::swiglu(gate, value)
    }
}

#[cfg(test)]
fn plain(gate: &Tensor, value: &Tensor) -> Result<Tensor> {
    gate.silu()? * value
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        value: &CpuStorage,
        value_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("swiglu").numbers(3 * gate_layout.shape().elem_count());
        let (gate, value) = (slice(gate, gate_layout)?, slice(value, value_layout)?);
        let [out] = written(gate.len(), PIECE, |start, [out]| {
            let (gate, value) = (&gate[start..][..out.len()], &value[start..][..out.len()]);
            simd::dispatch_kernel(Activate { gate, value, out });
        });
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        value: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("swiglu, backward").numbers(5 * grad.elem_count());
        let grad = grad.contiguous()?;
        let (gates, values, dy) = (Values::of(gate)?, Values::of(value)?, Values::of(&grad)?);
        let (gates, values, dy): (&[f32], &[f32], &[f32]) = (&gates, &values, &dy);
        let [dg, dv] = written(dy.len(), PIECE, |start, [dg, dv]| {
            let [gate, value, dy] = [gates, values, dy].map(|all| &all[start..][..dg.len()]);
            simd::dispatch_kernel(ActivateBack { gate, value, dy, dg, dv });
        });
        let tensor = |grad| Tensor::from_vec(grad, gate.shape(), gate.device());
        Ok((Some(tensor(dg)?), Some(tensor(dv)?)))
    }
}

/// out = SiLU(gate) * value.
pub(super) struct Activate<'a> {
    pub(super) gate: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((out, &g), &v) in self.out.iter_mut().zip(self.gate).zip(self.value) {
            *out = g * simd::sigmoid(g) * v;
        }
    }
}

/// Gradients of gate and value from the gradient `dy` of the result.
pub(super) struct ActivateBack<'a> {
    pub(super) gate: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dg: &'a mut [f32],
    pub(super) dv: &'a mut [f32],
}

impl Kernel for ActivateBack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let read = self.gate.iter().zip(self.value).zip(self.dy);
        for ((dg, dv), ((&g, &v), &dy)) in self.dg.iter_mut().zip(self.dv).zip(read) {
            let sigmoid = simd::sigmoid(g);
            *dg = dy * v * sigmoid * (1.0 + g * (1.0 - sigmoid));
            *dv = dy * g * sigmoid;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn agrees_with_plain_operations() {
        for shape in [&[21][..], &[1], &[3, 1, PIECE / 2 + 3]] {
            let inputs = [random("gate", shape), random("value", shape)];
            agrees(&inputs, |t| swiglu(&t[0], &t[1]), |t| plain(&t[0], &t[1]));
            agrees(&inputs, |t| tensors::swiglu(&t[0], &t[1]), |t| plain(&t[0], &t[1]));
        }
        let empty = Tensor::zeros((2, 0), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(swiglu(&empty, &empty).unwrap().dims(), [2, 0]);
        assert!(swiglu(&random("gate", &[21]), &random("value", &[3, 7])).is_err());
    }
}
