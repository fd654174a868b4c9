//! The input gradient of a convolution whose stride leaves pixels out.
//!
//! The pixels under every second row and column of the kernel, or every so many as the stride is, meet the same part of the kernel: their
//! gradients are a convolution of the result's gradient with that part, turned, of stride 1.

use super::super::geometry::Geometry;
use super::super::kernel::block;
use super::{Packed, Padded, run};
use crate::profile;

/// The parts of a kernel, turned and packed.
#[derive(Debug)]
pub(in crate::ops) struct Strided(Vec<Part>);

/// Taps from `(top, left)` on, a stride apart: `lines` x `columns` of them.
#[derive(Debug)]
struct Part {
    top: usize,
    left: usize,
    lines: usize,
    columns: usize,
    packed: Packed,
}

impl Strided {
    /// Of a kernel that is turned, `[kernel, kernel, outputs, channels]`; nothing where the channels do not fit the vectors of
    /// this processor.
    pub(in crate::ops) fn new(g: &Geometry, turned: &[f32]) -> Option<Self> {
        let (block, stride, tap) = (block(g.channels)?, g.conv.stride, g.outputs * g.channels);
        let count = |first: usize| (g.kernel - first).div_ceil(stride);
        let mut parts = Vec::new();
        for top in 0..stride.min(g.kernel) {
            for left in 0..stride.min(g.kernel) {
                let (lines, columns) = (count(top), count(left));
                // The last taps come first in what is turned.
                let (y, x) = (g.kernel - 1 - top - (lines - 1) * stride, g.kernel - 1 - left - (columns - 1) * stride);
                let mut weights = Vec::with_capacity(lines * columns * tap);
                for line in 0..lines {
                    for column in 0..columns {
                        let at = (y + line * stride) * g.kernel + x + column * stride;
                        weights.extend_from_slice(&turned[at * tap..][..tap]);
                    }
                }
                parts.push(Part { top, left, lines, columns, packed: Packed::blocks(&weights, g.channels, block) });
            }
        }
        Some(Self(parts))
    }

    /// Writes the gradient of the images to `dx`, which is zero before.
    pub(in crate::ops) fn input_gradient(&self, g: &Geometry, dy: &[f32], dx: &mut [f32], buffer: &mut Vec<f32>) {
        let _span = profile::span("direct convolution").flops(2 * dy.len() * g.patch());
        let (stride, padding) = (g.conv.stride, g.conv.padding);
        // What the parts of the kernel reach beyond the result.
        let before = (g.kernel - 1) / stride;
        let after = |len: usize, padding: usize, out: usize| ((len - 1 + padding) / stride).saturating_sub(out - 1);
        let height = before + g.out_height + after(g.height, padding.top, g.out_height);
        let width = before + g.out_width + after(g.width, padding.left, g.out_width);
        let row = width * g.outputs;
        let values = if (height, width) == (g.out_height, g.out_width) {
            dy
        } else {
            // Longer than it must be, so that it is not cleared again and again.
            let needed = g.batch * height * row;
            if buffer.len() < needed {
                buffer.resize(needed, 0.0);
            }
            let images = dy.chunks_exact(g.out_height * g.out_row());
            for (image, to) in images.zip(buffer.chunks_exact_mut(height * row)) {
                let (above, to) = to.split_at_mut(before * row);
                let (to, below) = to.split_at_mut(g.out_height * row);
                above.fill(0.0);
                below.fill(0.0);
                for (line, to) in image.chunks_exact(g.out_row()).zip(to.chunks_exact_mut(row)) {
                    let (left, to) = to.split_at_mut(before * g.outputs);
                    let (to, right) = to.split_at_mut(g.out_row());
                    left.fill(0.0);
                    to.copy_from_slice(line);
                    right.fill(0.0);
                }
            }
            buffer
        };
        for part in &self.0 {
            let (mut starts, mut places) = (Vec::new(), Vec::new());
            let of_part = |first: usize, padding: usize, len: usize| {
                ((first + stride - padding % stride) % stride..len).step_by(stride)
            };
            for image in 0..g.batch {
                for y in of_part(part.top, padding.top, g.height) {
                    let line = image * height + (y + padding.top) / stride + before + 1 - part.lines;
                    for x in of_part(part.left, padding.left, g.width) {
                        let column = (x + padding.left) / stride + before + 1 - part.columns;
                        starts.push((line * width + column) * g.outputs);
                        places.push(((image * g.height + y) * g.width + x) * g.channels);
                    }
                }
            }
            let images = Padded { values, starts, places, row };
            run(&images, &part.packed, (part.lines, part.columns * g.outputs), dx);
        }
    }
}
