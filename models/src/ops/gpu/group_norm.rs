//! Group normalisation with ReLU.

use candle_core::{Result, Tensor};
use drifting_kernels::{Argument, Launch, Output, WARP, launch, source};

use super::super::group_norm::GroupNorm;
use super::super::tensors::product::sum_of_rows;
use super::super::tensors::reversible::{Back, reversible};
use super::{THREADS, columns_of_images};

/// [`group_norm`](super::super::group_norm()) by kernels.
pub(in super::super) fn group_norm(x: &Tensor, scale: &Tensor, bias: &Tensor, settings: GroupNorm) -> Result<Tensor> {
    let wanted = [x.track_op(), scale.track_op() || bias.track_op()];
    let (y, back) = there_and_back(x, scale, bias, settings, wanted)?;
    reversible([x, scale, bias], y, move |_, dy| back(dy))
}

/// The result, and what makes the gradients of x, and of scale and bias, of its gradient, as far as they are wanted.
pub(super) fn there_and_back(
    x: &Tensor,
    scale: &Tensor,
    bias: &Tensor,
    settings: GroupNorm,
    wanted: [bool; 2],
) -> Result<(Tensor, impl Back<3> + use<>)> {
    let (images, channels, groups) = (x.dim(0)?, scale.dim(0)?, settings.groups);
    let places = x.elem_count() / (images * channels).max(1);
    let (input, gain, offset) = (x.detach().contiguous()?, scale.detach().contiguous()?, bias.detach().contiguous()?);
    let sizes = [
        Argument::Count(places),
        Argument::Count(channels),
        Argument::Count(groups),
        Argument::Count(usize::from(settings.relu)),
    ];
    let of_groups = Launch { grid: [images * groups, 1, 1], threads: THREADS, shared: 4 * THREADS / WARP };
    let [y, stats] = launch(
        source::GROUP_NORM.kernel("group_norm_forward"),
        of_groups,
        x.device(),
        [Output::f32(x.dims()), Output::f32(&[images, groups, 2])],
        &[
            &[Argument::Input(&input), Argument::Input(&gain), Argument::Input(&offset)][..],
            &sizes,
            &[Argument::Number(settings.eps)],
        ]
        .concat(),
    )?;
    let back = move |dy: &Tensor| {
        let given = [&input, &stats, dy, &gain, &offset].map(Argument::Input);
        let arguments = [&given[..], &sizes].concat();
        let dx = wanted[0].then(|| {
            let kernel = source::GROUP_NORM.kernel("group_norm_back");
            let [dx] = launch(kernel, of_groups, dy.device(), [Output::f32(dy.dims())], &arguments)?;
            Ok::<_, candle_core::Error>(dx)
        });
        if !wanted[1] {
            return Ok([dx.transpose()?, None, None]);
        }
        let of_images = [images, channels];
        let [dscale, dbias] = launch(
            source::GROUP_NORM.kernel("group_norm_columns"),
            columns_of_images(images, channels),
            dy.device(),
            [Output::f32(&of_images), Output::f32(&of_images)],
            &arguments,
        )?;
        Ok([dx.transpose()?, Some(sum_of_rows(&dscale)?), Some(sum_of_rows(&dbias)?)])
    };
    Ok((y, back))
}
