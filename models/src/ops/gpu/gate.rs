//! x + gate * y.

use candle_core::{Result, Tensor};
use drifting_kernels::{Argument, Launch, Output, launch, source};

use super::super::tensors::product::columns_at;
use super::super::tensors::reversible::{Back, reversible};
use super::{THREADS, columns_of_images};

/// [`gated_add`](super::super::gated_add) by kernels.
pub(in super::super) fn gated_add(x: &Tensor, y: &Tensor, modulation: &Tensor, offset: usize) -> Result<Tensor> {
    let (sum, back) = there_and_back(x, y, modulation, offset)?;
    reversible([x, y, modulation], sum, move |_, dsum| back(dsum))
}

/// The result, and what makes the gradients of x, y and modulation of its gradient.
pub(super) fn there_and_back(
    x: &Tensor,
    y: &Tensor,
    modulation: &Tensor,
    offset: usize,
) -> Result<(Tensor, impl Back<3> + use<>)> {
    let ((images, tokens, hidden), width) = (x.dims3()?, modulation.dim(1)?);
    let (input, branch) = (x.detach().contiguous()?, y.detach().contiguous()?);
    let gates = modulation.detach().contiguous()?;
    let sizes = [tokens, hidden, width, offset].map(Argument::Count);
    let [sum] = launch(
        source::GATE.kernel("gate_forward"),
        Launch::over(input.elem_count(), THREADS),
        x.device(),
        [Output::f32(x.dims())],
        &[&[&input, &branch, &gates].map(Argument::Input)[..], &[Argument::Count(images * tokens)], &sizes].concat(),
    )?;
    let back = move |dsum: &Tensor| {
        let [dy, dgate] = launch(
            source::GATE.kernel("gate_back"),
            columns_of_images(images, hidden),
            dsum.device(),
            [Output::f32(dsum.dims()), Output::f32(&[images, hidden])],
            &[&[dsum, &branch, &gates].map(Argument::Input)[..], &sizes].concat(),
        )?;
        Ok([Some(dsum.clone()), Some(dy), Some(columns_at(&dgate, offset, width)?)])
    };
    Ok((sum, back))
}
