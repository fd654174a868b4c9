//! Sizes of a convolution, and which pixels a patch is made of.

use std::ops::Range;

use candle_core::{Result, bail};

use super::{Conv, Padding};

/// Sizes of a convolution. All are at least 1 but the batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Geometry {
    pub(in crate::ops) batch: usize,
    pub(in crate::ops) height: usize,
    pub(in crate::ops) width: usize,
    pub(in crate::ops) channels: usize,
    pub(in crate::ops) kernel: usize,
    pub(in crate::ops) outputs: usize,
    pub(in crate::ops) out_height: usize,
    pub(in crate::ops) out_width: usize,
    pub(in crate::ops) conv: Conv,
}

impl Geometry {
    pub(in crate::ops) fn new(
        (batch, height, width, channels): (usize, usize, usize, usize),
        (kernel, columns, inputs, outputs): (usize, usize, usize, usize),
        conv: Conv,
    ) -> Result<Self> {
        let Conv { stride, padding, groups } = conv;
        let depthwise = groups == channels && outputs == channels;
        if groups != 1 && !depthwise {
            bail!("conv2d: {groups} groups of {channels} channels to {outputs}; only 1 group or a group a channel");
        }
        if inputs * groups != channels || kernel != columns {
            bail!("conv2d of {channels} channels in {groups} groups: weight {:?}", [kernel, columns, inputs, outputs]);
        }
        let (rows, columns) = (height + padding.top + padding.bottom, width + padding.left + padding.right);
        if [height, width, channels, kernel, outputs, stride].contains(&0) || rows < kernel || columns < kernel {
            bail!("conv2d of {height}x{width}x{channels}, padded {padding:?}: kernel {kernel} of stride {stride}");
        }
        let (out_height, out_width) = ((rows - kernel) / stride + 1, (columns - kernel) / stride + 1);
        Ok(Self { batch, height, width, channels, kernel, outputs, out_height, out_width, conv })
    }

    /// The convolution of the result's gradient, with the kernel turned, that gives the gradient of the images; there is none
    /// if the stride leaves pixels out or the padding is wider than the kernel.
    pub(in crate::ops) fn reversed(&self) -> Option<Self> {
        let Padding { top, bottom, left, right } = self.conv.padding;
        let side = |padding: usize| (self.kernel - 1).checked_sub(padding);
        let padding = Padding { top: side(top)?, bottom: side(bottom)?, left: side(left)?, right: side(right)? };
        (self.conv.stride == 1).then_some(Self {
            batch: self.batch,
            height: self.out_height,
            width: self.out_width,
            channels: self.outputs,
            kernel: self.kernel,
            outputs: self.channels,
            out_height: self.height,
            out_width: self.width,
            conv: Conv { padding, ..self.conv },
        })
    }

    /// Whether every channel is convolved by itself (with one channel, dense and depthwise are the same).
    pub(in crate::ops) fn is_depthwise(&self) -> bool {
        self.conv.groups > 1
    }

    /// Whether a patch is a pixel.
    pub(in crate::ops) fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.conv.stride == 1 && self.conv.padding == 0.into()
    }

    /// Numbers in a row of an image.
    pub(in crate::ops) fn row(&self) -> usize {
        self.width * self.channels
    }

    /// Numbers in an image.
    pub(in crate::ops) fn image(&self) -> usize {
        self.height * self.row()
    }

    /// Numbers in a row of the result.
    pub(in crate::ops) fn out_row(&self) -> usize {
        self.out_width * self.outputs
    }

    /// Rows of the results of all images together.
    pub(in crate::ops) fn out_rows(&self) -> usize {
        self.batch * self.out_height
    }

    /// Numbers in a patch of a dense convolution.
    pub(in crate::ops) fn patch(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    /// The input row under row `tap` of the kernel at output row `y`; none in the padding.
    #[inline(always)]
    pub(in crate::ops) fn input_row(&self, y: usize, tap: usize) -> Option<usize> {
        (y * self.conv.stride + tap).checked_sub(self.conv.padding.top).filter(|row| *row < self.height)
    }

    /// The columns of the kernel that are over the image at output column `x`, and the input column under the first.
    #[inline(always)]
    pub(in crate::ops) fn taps(&self, x: usize) -> (Range<usize>, usize) {
        let (at, left) = (x * self.conv.stride, self.conv.padding.left);
        let first = left.saturating_sub(at).min(self.kernel);
        let end = (self.width + left).saturating_sub(at).min(self.kernel);
        // The minimum is for patches that are all padding: their first pixel is beside the image.
        (first..end.max(first), (at + first).saturating_sub(left).min(self.width))
    }

    /// Writes the patches from output row `first` on, counted through all images, to `patches`,
    /// `[rows, out_width, kernel, kernel, channels]`.
    pub(in crate::ops) fn gather(&self, x: &[f32], first: usize, patches: &mut [f32]) {
        let (c, line) = (self.channels, self.kernel * self.channels);
        for (row, patches) in (first..).zip(patches.chunks_exact_mut(self.out_width * self.patch())) {
            let (image, y) = (&x[row / self.out_height * self.image()..][..self.image()], row % self.out_height);
            for tap in 0..self.kernel {
                let input = self.input_row(y, tap).map(|row| &image[row * self.row()..][..self.row()]);
                for (x, patch) in patches.chunks_exact_mut(self.patch()).enumerate() {
                    let to = &mut patch[tap * line..][..line];
                    let Some(input) = input else {
                        to.fill(0.0);
                        continue;
                    };
                    let (taps, from) = self.taps(x);
                    to[..taps.start * c].fill(0.0);
                    to[taps.end * c..].fill(0.0);
                    to[taps.start * c..taps.end * c].copy_from_slice(&input[from * c..][..taps.len() * c]);
                }
            }
        }
    }

    /// Adds patches from output row `first` on to the pixels that they were made of; the counterpart of
    /// [`gather`](Self::gather).
    #[inline(always)]
    pub(in crate::ops) fn scatter(&self, patches: &[f32], first: usize, images: &mut [f32]) {
        let (c, line) = (self.channels, self.kernel * self.channels);
        for (row, patches) in (first..).zip(patches.chunks_exact(self.out_width * self.patch())) {
            let (image, y) =
                (&mut images[row / self.out_height * self.image()..][..self.image()], row % self.out_height);
            for tap in 0..self.kernel {
                let Some(row) = self.input_row(y, tap) else { continue };
                let to = &mut image[row * self.row()..][..self.row()];
                for (x, patch) in patches.chunks_exact(self.patch()).enumerate() {
                    let (taps, at) = self.taps(x);
                    let from = &patch[tap * line + taps.start * c..tap * line + taps.end * c];
                    to[at * c..][..from.len()].iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
                }
            }
        }
    }
}
