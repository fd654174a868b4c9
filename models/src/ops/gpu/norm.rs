//! RMSNorm and LayerNorm with gain and modulation.

use candle_core::{Result, Tensor};
use drifting_kernels::{Argument, Launch, Output, launch, source};
use drifting_spec::Norm;

use super::super::EPSILON;
use super::super::norm::Modulation;
use super::super::tensors::product::{columns_at, sum_of_rows};
use super::super::tensors::reversible::{Back, reversible};
use super::columns_of_images;

/// [`norm`](super::super::norm()) by kernels.
pub(in super::super) fn norm(
    kind: Norm,
    x: &Tensor,
    affine: &Tensor,
    modulation: &Tensor,
    columns: Modulation,
) -> Result<Tensor> {
    let (y, back) = there_and_back(kind, x, affine, modulation, columns)?;
    reversible([x, affine, modulation], y, move |_, dy| back(dy))
}

/// The result, and what makes the gradients of x, affine and modulation of its gradient.
pub(super) fn there_and_back(
    kind: Norm,
    x: &Tensor,
    affine: &Tensor,
    modulation: &Tensor,
    columns: Modulation,
) -> Result<(Tensor, impl Back<3> + use<>)> {
    let (images, tokens, hidden) = x.dims3()?;
    let (parts, width, rows) = (affine.dim(0)?, modulation.dim(1)?, images * tokens);
    let (input, gains, modulations) =
        (x.detach().contiguous()?, affine.detach().contiguous()?, modulation.detach().contiguous()?);
    let centred = Argument::Count(usize::from(kind == Norm::Layer));
    let sizes = [rows, tokens, hidden, width, columns.scale].map(Argument::Count);
    let more = [Argument::Count(columns.shift), Argument::Count(parts), centred, Argument::Number(EPSILON)];
    let [y, stats] = launch(
        source::NORM.kernel("norm_forward"),
        Launch::rows(rows),
        x.device(),
        [Output::f32(x.dims()), Output::f32(&[rows, 2])],
        &[&[&input, &gains, &modulations].map(Argument::Input)[..], &sizes, &more].concat(),
    )?;
    let back = move |dy: &Tensor| {
        let given = [&input, &stats, dy, &gains, &modulations].map(Argument::Input);
        let [dx] = launch(
            source::NORM.kernel("norm_back"),
            Launch::rows(rows),
            dy.device(),
            [Output::f32(dy.dims())],
            &[&given[..], &sizes, &[centred]].concat(),
        )?;
        let of_images = [images, hidden];
        let [along, sums] = launch(
            source::NORM.kernel("norm_columns"),
            columns_of_images(images, hidden),
            dy.device(),
            [Output::f32(&of_images), Output::f32(&of_images)],
            &[&given[..3], &sizes[1..3]].concat(),
        )?;
        let factor = (modulations.narrow(1, columns.scale, hidden)? + 1.0)?;
        let of_gain = |part: &Tensor| sum_of_rows(&(part * &factor)?)?.unsqueeze(0);
        let mut dscale = along.broadcast_mul(&gains.get(0)?)?;
        let mut daffine = of_gain(&along)?;
        if parts == 2 {
            dscale = (dscale + sums.broadcast_mul(&gains.get(1)?)?)?;
            daffine = Tensor::cat(&[daffine, of_gain(&sums)?], 0)?;
        }
        let dmodulation = (columns_at(&dscale, columns.scale, width)? + columns_at(&sums, columns.shift, width)?)?;
        Ok([Some(dx), Some(daffine), Some(dmodulation)])
    };
    Ok((y, back))
}
