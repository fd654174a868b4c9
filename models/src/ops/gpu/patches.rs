//! Patches of images.

use candle_core::{Result, Tensor};
use drifting_kernels::{Argument, Launch, Output, WARP, launch, source};

use super::super::tensors::conv::Window;
use super::{THREADS, factored, narrow, of_factors};

/// The patches of images `[n, height, width, channels]` as rows, a factor of products.
pub(in super::super) fn patches(window: &Window, x: &Tensor) -> Result<Tensor> {
    let Window { height, width, channels, side, out, stride, before, apart } = *window;
    let rows = x.dim(0)? * out[0] * out[1];
    let aligned = channels.is_multiple_of(4) && x.layout().start_offset().is_multiple_of(4);
    let (run, names) = match aligned {
        true => (4, ["patches_f32_by_4", "patches_bf16_by_4"]),
        false => (1, ["patches_f32", "patches_bf16"]),
    };
    let at_once = (THREADS / (window.len() / run)).max(1);
    let [top, left] = before.map(Argument::Offset);
    let sizes = [rows, at_once, height, width, channels, side, out[0], out[1], stride].map(Argument::Count);
    let [patches] = launch(
        of_factors(&source::PATCHES, names),
        Launch { grid: [rows.div_ceil(at_once), 1, 1], threads: 8 * WARP, shared: 0 },
        x.device(),
        [Output::factor(&[rows, window.len()], narrow())],
        &[&[Argument::Input(x)][..], &sizes, &[top, left, Argument::Count(apart)]].concat(),
    )?;
    factored(patches)
}
