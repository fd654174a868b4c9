//! SiLU(gate) * value.

use candle_core::{D, Result, Tensor};
use drifting_kernels::{Argument, Launch, Output, launch, source};

use super::super::tensors::reversible::{Back, reversible};
use super::THREADS;

/// [`swiglu`](super::super::swiglu()) by kernels.
pub(in super::super) fn swiglu(gate: &Tensor, value: &Tensor) -> Result<Tensor> {
    let (y, back) = there_and_back(gate, value)?;
    reversible([gate, value], y, move |_, dy| back(dy))
}

/// The result, and what makes the gradients of gate and value of its gradient.
pub(super) fn there_and_back(gate: &Tensor, value: &Tensor) -> Result<(Tensor, impl Back<2> + use<>)> {
    let (g, v) = (gate.detach().contiguous()?, value.detach().contiguous()?);
    let (count, columns) = (g.elem_count(), g.dim(D::Minus1)?);
    let sizes = [Argument::Count(count / columns.max(1)), Argument::Count(columns)];
    let (over, shape) = (Launch::over(count, THREADS), g.dims().to_vec());
    let arguments = [&[Argument::Input(&g), Argument::Input(&v)][..], &sizes].concat();
    let kernel = source::SWIGLU.kernel("swiglu_forward");
    let [y] = launch(kernel, over, gate.device(), [Output::f32(&shape)], &arguments)?;
    let back = move |dy: &Tensor| {
        let arguments = [&[&g, &v, dy].map(Argument::Input)[..], &sizes].concat();
        let outputs = [Output::f32(&shape), Output::f32(&shape)];
        let [dg, dv] = launch(source::SWIGLU.kernel("swiglu_back"), over, dy.device(), outputs, &arguments)?;
        Ok([Some(dg), Some(dv)])
    };
    Ok((y, back))
}
