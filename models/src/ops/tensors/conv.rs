//! Dense convolution for devices other than the processor: by cuDNN, or a product of patches and weights, some images at a time.

use candle_core::{Result, Tensor};
use drifting_kernels::Convolution;

use super::super::conv::geometry::Geometry;
use super::super::gpu;
use super::super::operations::kernels;
use super::linear::biased;
use super::product::{factor, product, sum_of_rows};
use super::reversible::{Back, reversible};

/// Numbers of a convolution's patches that are in memory at once, about.
pub const PATCHES: usize = 1 << 27;

/// [`conv2d`](super::super::conv2d()) of one group on any device.
pub(in super::super) fn convolution(g: Geometry, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (y, back) = there_and_back(g, x, weight, [x.track_op(), weight.track_op()])?;
    let Some(bias) = bias else { return reversible([x, weight], y, move |_, dy| back(dy)) };
    let (y, wanted) = (biased(y, bias)?, bias.track_op());
    reversible([x, weight, bias], y, move |_, dy| {
        let [dx, dw] = back(dy)?;
        let db = wanted.then(|| sum_of_rows(&dy.reshape(((), g.outputs))?)).transpose()?;
        Ok([dx, dw, db])
    })
}

/// The result without bias, and what makes the gradients of x and weight of its gradient, as far as they are wanted.
pub(in super::super) fn there_and_back(
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    wanted: [bool; 2],
) -> Result<(Tensor, impl Back<2> + use<>)> {
    through(gpu::by_cudnn(&g, x.device()), g, x, weight, wanted)
}

/// The same by cuDNN where it is told something, else as products of patches.
pub(in super::super) fn through(
    told: Option<Convolution>,
    g: Geometry,
    x: &Tensor,
    weight: &Tensor,
    wanted: [bool; 2],
) -> Result<(Tensor, impl Back<2> + use<>)> {
    let (images, kernel) = (x.detach().contiguous()?, weight.detach());
    let y = match told {
        Some(convolution) => convolution.forward(&images, &kernel, gpu::digits())?,
        None => Window::of(&g).correlate(&images, &kernel)?,
    };
    let back = move |dy: &Tensor| {
        let dx = || match told {
            Some(convolution) => convolution.images_gradient(&kernel, dy, gpu::digits()),
            None => Window::back(&g).correlate(dy, &turned(&kernel)?),
        };
        let dw = || match told {
            Some(convolution) => convolution.kernel_gradient(&images, dy, gpu::digits()),
            None => weight_gradient(&g, &images, dy),
        };
        Ok([wanted[0].then(dx).transpose()?, wanted[1].then(dw).transpose()?])
    };
    Ok((y, back))
}

/// Which numbers of images patches are made of.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Window {
    pub(in super::super) height: usize,
    pub(in super::super) width: usize,
    pub(in super::super) channels: usize,
    pub(in super::super) side: usize,
    /// Rows and columns of patches.
    pub(in super::super) out: [usize; 2],
    pub(in super::super) stride: usize,
    /// Zeros before the first row and column; rows and columns are left out where that is negative.
    pub(in super::super) before: [isize; 2],
    /// From one number to the next, zeros being between them.
    pub(in super::super) apart: usize,
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
            before: [g.conv.padding.top, g.conv.padding.left].map(|padding| padding as isize),
            apart: 1,
        }
    }

    /// Patches of the result's gradient, its numbers a stride apart: one for each pixel of the images.
    fn back(g: &Geometry) -> Self {
        let last = g.kernel as isize - 1;
        Self {
            height: g.out_height,
            width: g.out_width,
            channels: g.outputs,
            side: g.kernel,
            out: [g.height, g.width],
            stride: 1,
            before: [g.conv.padding.top, g.conv.padding.left].map(|padding| last - padding as isize),
            apart: g.conv.stride,
        }
    }

    /// Numbers of a patch.
    pub(in super::super) fn len(&self) -> usize {
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
        if self.is_whole() {
            return factor(&x.reshape((x.dim(0)? * self.out[0] * self.out[1], self.channels))?);
        }
        if kernels(x.device()) { gpu::patches(self, x) } else { self.views(&factor(x)?) }
    }

    /// The same in tensor operations.
    fn views(&self, x: &Tensor) -> Result<Tensor> {
        let images = x.dim(0)?;
        let mut apart = x.clone();
        if self.apart > 1 {
            let cells = x.reshape((images, self.height, 1, self.width, 1, self.channels))?;
            let cells = cells.pad_with_zeros(2, 0, self.apart - 1)?.pad_with_zeros(4, 0, self.apart - 1)?;
            apart = cells.reshape((images, self.height * self.apart, self.width * self.apart, self.channels))?;
        }
        let covered = |outs: usize| (outs - 1) * self.stride + self.side;
        let rows = fit(&apart, 1, self.before[0], covered(self.out[0]))?;
        let padded = fit(&rows, 2, self.before[1], covered(self.out[1]))?;
        // `[n, out height, out width, c, row, column]`, a view of the pixels.
        let windows = padded.unfold(1, self.side, self.stride)?.unfold(2, self.side, self.stride)?;
        let rows = (images * self.out[0] * self.out[1], self.len());
        windows.permute((0, 1, 2, 4, 5, 3))?.contiguous()?.reshape(rows)
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

/// `length` lines of `x`, beginning `before` zeros before its first one; lines are left out where that is negative.
fn fit(x: &Tensor, dim: usize, before: isize, length: usize) -> Result<Tensor> {
    let first = (-before).max(0) as usize;
    let before = before.max(0) as usize;
    let taken = length.saturating_sub(before).min(x.dim(dim)?.saturating_sub(first));
    x.narrow(dim, first, taken)?.pad_with_zeros(dim, before, length.saturating_sub(before + taken))
}

/// The kernel upside down and back to front, from outputs to channels.
fn turned(kernel: &Tensor) -> Result<Tensor> {
    kernel.flip(&[0, 1])?.transpose(2, 3)?.contiguous()
}

fn weight_gradient(g: &Geometry, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let window = Window::of(g);
    let (mut sum, mut first) = (None, 0);
    for part in window.parts(x)? {
        let images = part.dim(0)?;
        let dy = factor(&dy.narrow(0, first, images)?.contiguous()?.reshape(((), g.outputs))?)?;
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
