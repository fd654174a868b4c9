//! Dense convolution: a product of patches and weights, some images at a time.

use candle_core::{Result, Tensor};
use drifting_kernels::{Argument, Launch, Output, WARP, launch, source};

use super::super::conv::geometry::Geometry;
use super::super::tensors::PATCHES;
use super::super::tensors::conv::turned;
use super::super::tensors::product::{factor, product, sum_of_rows};
use super::super::tensors::reversible::reversible;
use super::{Back, THREADS, add_bias, factored, narrow, of_factors};

/// [`conv2d`](super::super::conv2d()) of one group by kernels.
pub(in super::super) fn convolution(g: Geometry, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (y, back) = there_and_back(g, x, weight, [x.track_op(), weight.track_op()])?;
    let Some(bias) = bias else { return reversible([x, weight], y, move |_, dy| back(dy)) };
    add_bias(&y, bias)?;
    let wanted = bias.track_op();
    reversible([x, weight, bias], y, move |_, dy| {
        let [dx, dw] = back(dy)?;
        let db = wanted.then(|| sum_of_rows(&dy.reshape(((), g.outputs))?)).transpose()?;
        Ok([dx, dw, db])
    })
}

/// The result without bias, and what makes the gradients of x and weight of its gradient, as far as they are wanted.
pub(super) fn there_and_back(
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    wanted: [bool; 2],
) -> Result<(Tensor, impl Back<2> + use<>)> {
    let (images, kernel) = (x.detach().contiguous()?, weight.detach());
    let y = Window::of(&g).correlate(&images, &kernel)?;
    let back = move |dy: &Tensor| {
        let dx = wanted[0].then(|| Window::back(&g).correlate(dy, &turned(&kernel)?)).transpose()?;
        let dw = wanted[1].then(|| weight_gradient(&g, &images, dy)).transpose()?;
        Ok([dx, dw])
    };
    Ok((y, back))
}

/// Which numbers of images patches are made of.
struct Window {
    height: usize,
    width: usize,
    channels: usize,
    side: usize,
    out: [usize; 2],
    stride: usize,
    /// Zeros before the first row and column.
    before: [isize; 2],
    /// From one number to the next, zeros being between them.
    apart: usize,
}

impl Window {
    /// Patches of the images.
    fn of(g: &Geometry) -> Self {
        Self {
            height: g.height,
            width: g.width,
            channels: g.channels,
            side: g.kernel,
            out: [g.out_height, g.out_width],
            stride: g.conv.stride,
            before: [g.conv.padding.top as isize, g.conv.padding.left as isize],
            apart: 1,
        }
    }

    /// Patches of the result's gradient, one for each pixel of the images.
    fn back(g: &Geometry) -> Self {
        let padding = g.conv.padding;
        // Where more rows than the kernel's are padded, patches begin behind the first ones.
        let before = [padding.top, padding.left].map(|padding| g.kernel as isize - 1 - padding as isize);
        Self {
            height: g.out_height,
            width: g.out_width,
            channels: g.outputs,
            side: g.kernel,
            out: [g.height, g.width],
            stride: 1,
            before,
            apart: g.conv.stride,
        }
    }

    /// Numbers of a patch.
    fn len(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Whether patches are the numbers themselves.
    fn is_whole(&self) -> bool {
        (self.side, self.stride, self.apart) == (1, 1, 1)
            && self.before == [0, 0]
            && self.out == [self.height, self.width]
    }

    /// The patches of images `[n, height, width, channels]` as rows, a factor of products.
    fn patches(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.dim(0)? * self.out[0] * self.out[1];
        if self.is_whole() {
            return factor(&x.reshape((rows, self.channels))?);
        }
        let aligned = self.channels.is_multiple_of(4) && x.layout().start_offset().is_multiple_of(4);
        let run = if aligned { 4 } else { 1 };
        let names = match aligned {
            true => ["patches_f32_by_4", "patches_bf16_by_4"],
            false => ["patches_f32", "patches_bf16"],
        };
        let at_once = (THREADS / (self.len() / run)).max(1);
        let [top, left] = self.before.map(Argument::Offset);
        let [patches] = launch(
            of_factors(&source::PATCHES, names),
            Launch { grid: [rows.div_ceil(at_once), 1, 1], threads: 8 * WARP, shared: 0 },
            x.device(),
            [Output::factor(&[rows, self.len()], narrow())],
            &[
                Argument::Input(x),
                Argument::Count(rows),
                Argument::Count(at_once),
                Argument::Count(self.height),
                Argument::Count(self.width),
                Argument::Count(self.channels),
                Argument::Count(self.side),
                Argument::Count(self.out[0]),
                Argument::Count(self.out[1]),
                Argument::Count(self.stride),
                top,
                left,
                Argument::Count(self.apart),
            ],
        )?;
        factored(patches)
    }

    /// Some images at a time.
    fn parts(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let (images, of_image) = (x.dim(0)?, self.out[0] * self.out[1] * self.len());
        let at_once = (PATCHES / of_image.max(1)).max(1);
        (0..images).step_by(at_once).map(|first| x.narrow(0, first, at_once.min(images - first))).collect()
    }

    /// The products of patches with a kernel `[side, side, channels, o]`, `[n, out height, out width, o]`.
    fn correlate(&self, x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        let outputs = kernel.dim(3)?;
        let matrix = factor(&kernel.contiguous()?.reshape((self.len(), outputs))?)?;
        let results = self.parts(x)?.into_iter().map(|part| {
            product(&self.patches(&part)?, &matrix)?.reshape((part.dim(0)?, self.out[0], self.out[1], outputs))
        });
        let mut results = results.collect::<Result<Vec<_>>>()?;
        if results.len() == 1 { Ok(results.remove(0)) } else { Tensor::cat(&results, 0) }
    }
}

fn weight_gradient(g: &Geometry, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let window = Window::of(g);
    let (mut sum, mut first) = (None, 0);
    for part in window.parts(x)? {
        let images = part.dim(0)?;
        let dy = factor(&dy.narrow(0, first, images)?.reshape(((), g.outputs))?)?;
        let more = product(&window.patches(&part)?.t()?, &dy)?;
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
