//! Dense convolution in tensor operations, for devices other than the processor: a product of patches and weights, some images at
//! a time.

use candle_core::{Result, Tensor};

use super::super::conv::geometry::Geometry;
use super::product::{factor, product, sum_of_rows};
use super::reversible::reversible;

/// Numbers of a convolution's patches that are in memory at once, about, where it is composed of tensor operations.
pub const PATCHES: usize = 1 << 27;

/// [`conv2d`](super::super::conv2d()) of one group on any device.
pub(in super::super) fn convolution(g: Geometry, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (images, kernel) = (x.detach(), weight.detach());
    let mut y = correlate(&padded(&g, &images)?, &kernel, [g.out_height, g.out_width], g.conv.stride)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.detach())?;
    }
    let wanted = [x.track_op(), weight.track_op(), bias.is_some_and(Tensor::track_op)];
    let back = move |dy: &Tensor| {
        let dx = wanted[0].then(|| input_gradient(&g, &kernel, dy)).transpose()?;
        let dw = wanted[1].then(|| weight_gradient(&g, &images, dy)).transpose()?;
        let db = wanted[2].then(|| sum_of_rows(&dy.reshape(((), g.outputs))?)).transpose()?;
        Ok([dx, dw, db])
    };
    match bias {
        Some(bias) => reversible([x, weight, bias], y, move |_, dy| back(dy)),
        None => reversible([x, weight], y, move |_, dy| back(dy).map(|[dx, dw, _]| [dx, dw])),
    }
}

/// The images with their padding, as far as patches reach.
fn padded(g: &Geometry, x: &Tensor) -> Result<Tensor> {
    let (stride, padding) = (g.conv.stride, g.conv.padding);
    let covered = |outputs: usize| (outputs - 1) * stride + g.kernel;
    let rows = fit(x, 1, padding.top as isize, covered(g.out_height))?;
    fit(&rows, 2, padding.left as isize, covered(g.out_width))
}

/// `length` lines of `x`, beginning `before` zeros before its first one; lines are left out where that is negative.
fn fit(x: &Tensor, dim: usize, before: isize, length: usize) -> Result<Tensor> {
    let first = (-before).max(0) as usize;
    let before = before.max(0) as usize;
    let taken = length.saturating_sub(before).min(x.dim(dim)?.saturating_sub(first));
    x.narrow(dim, first, taken)?.pad_with_zeros(dim, before, length.saturating_sub(before + taken))
}

/// The correlation of padded images `[n, height, width, c]` with a kernel `[k, k, c, o]`, `[n, out height, out width, o]`.
fn correlate(x: &Tensor, kernel: &Tensor, outs: [usize; 2], stride: usize) -> Result<Tensor> {
    let (side, _, channels, outputs) = kernel.dims4()?;
    let matrix = factor(kernel)?.reshape((side * side * channels, outputs))?;
    let parts = parts(x, outs[0] * outs[1] * side * side * channels)?;
    let results = parts.iter().map(|part| {
        let patches = patches(&factor(part)?, side, outs, stride)?;
        product(&patches, &matrix)?.reshape((part.dim(0)?, outs[0], outs[1], outputs))
    });
    Tensor::cat(&results.collect::<Result<Vec<_>>>()?, 0)
}

/// Some images at a time, each of which has this many numbers in its patches.
fn parts(x: &Tensor, numbers: usize) -> Result<Vec<Tensor>> {
    let (images, at_once) = (x.dim(0)?, (PATCHES / numbers.max(1)).max(1));
    if images <= at_once {
        return Ok(vec![x.clone()]);
    }
    (0..images).step_by(at_once).map(|first| x.narrow(0, first, at_once.min(images - first))).collect()
}

/// The patches of padded images as rows, `[n out_height out_width, k k c]`.
fn patches(x: &Tensor, side: usize, outs: [usize; 2], stride: usize) -> Result<Tensor> {
    let (images, _, _, channels) = x.dims4()?;
    let rows = (images * outs[0] * outs[1], side * side * channels);
    if side == 1 && stride == 1 {
        return x.contiguous()?.reshape(rows);
    }
    // `[n, out height, out width, c, row, column]`, a view of the pixels.
    let windows = x.unfold(1, side, stride)?.unfold(2, side, stride)?;
    windows.permute((0, 1, 2, 4, 5, 3))?.contiguous()?.reshape(rows)
}

/// Gradient of the images: the correlation of the result's gradient, its numbers `stride` apart, with the kernel turned.
fn input_gradient(g: &Geometry, kernel: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (stride, last) = (g.conv.stride, g.kernel - 1);
    let mut apart = dy.clone();
    if stride > 1 {
        let (images, rows, columns, outputs) = dy.dims4()?;
        let cells = dy.reshape((images, rows, 1, columns, 1, outputs))?;
        let cells = cells.pad_with_zeros(2, 0, stride - 1)?.pad_with_zeros(4, 0, stride - 1)?;
        apart = cells.reshape((images, rows * stride, columns * stride, outputs))?;
    }
    let rows = fit(&apart, 1, last as isize - g.conv.padding.top as isize, g.height + last)?;
    let apart = fit(&rows, 2, last as isize - g.conv.padding.left as isize, g.width + last)?;
    correlate(&apart, &turned(kernel)?, [g.height, g.width], 1)
}

/// The kernel upside down and back to front, from outputs to channels.
pub(in super::super) fn turned(kernel: &Tensor) -> Result<Tensor> {
    kernel.flip(&[0, 1])?.transpose(2, 3)?.contiguous()
}

fn weight_gradient(g: &Geometry, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let outs = [g.out_height, g.out_width];
    let padded = padded(g, x)?;
    let parts = parts(&padded, outs[0] * outs[1] * g.kernel * g.kernel * g.channels)?;
    let (mut sum, mut first) = (None, 0);
    for part in parts {
        let images = part.dim(0)?;
        let patches = patches(&factor(&part)?, g.kernel, outs, g.conv.stride)?;
        let dy = factor(&dy.narrow(0, first, images)?.contiguous()?.reshape(((), g.outputs))?)?;
        let more = product(&patches.t()?, &dy)?;
        sum = Some(match sum {
            Some(sum) => (sum + more)?,
            None => more,
        });
        first += images;
    }
    match sum {
        Some(sum) => sum.reshape((g.kernel, g.kernel, g.channels, g.outputs)),
        None => candle_core::bail!("conv2d of no images"),
    }
}
