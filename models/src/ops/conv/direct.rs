//! Dense convolution without patches: every number of a padded image is multiplied where it lies.
//!
//! In an image whose channels come last, the pixels under one row of the kernel are one run of numbers, and so are the weights of
//! that row for a block of outputs once they are packed. A few pixels of the result times a block of outputs stay in registers
//! while the runs go by. The order in which a number's products are added depends on the processor only.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::geometry::Geometry;
use super::kernel::{NARROW, PIXELS, Runs, WIDE, block, longest};
use crate::profile;

/// The weights of a convolution, block of outputs after block: `[outputs / block, kernel, kernel, channels, block]`.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Packed {
    weights: Vec<f32>,
    block: usize,
}

impl Packed {
    /// Packs `[kernel, kernel, channels, outputs]`; nothing where outputs are too few for the vectors of this processor, or
    /// make no whole blocks.
    pub(in crate::ops) fn new(g: &Geometry, weight: &[f32]) -> Option<Self> {
        let block = block(g.outputs)?;
        let mut weights = Vec::with_capacity(weight.len());
        for first in (0..g.outputs).step_by(block) {
            let rows = weight.chunks_exact(g.outputs);
            rows.for_each(|row| weights.extend_from_slice(&row[first..first + block]));
        }
        Some(Self { weights, block })
    }
}

/// The images under some rows of the result, with their padding, and where the patch of each pixel begins.
struct Padded<'a> {
    values: &'a [f32],
    starts: Vec<usize>,
    /// Numbers in a row.
    row: usize,
}

impl<'a> Padded<'a> {
    /// Under the output rows `rows`, counted through all images.
    fn new(g: &Geometry, x: &'a [f32], rows: Range<usize>, buffer: &'a mut Vec<f32>) -> Self {
        let (stride, padding) = (g.conv.stride, g.conv.padding);
        let width = g.width + padding.left + padding.right;
        let row = width * g.channels;
        let mut starts = Vec::with_capacity(rows.len() * g.out_width);
        let mut begin = |row: usize| starts.extend((0..g.out_width).map(|x| (row * width + x * stride) * g.channels));
        if g.is_pointwise() {
            (0..rows.len()).for_each(&mut begin);
            return Self { values: &x[rows.start * row..rows.end * row], starts, row };
        }
        buffer.clear();
        let mut first = rows.start;
        while first < rows.end {
            // The rows of one image.
            let (image, top) = (first / g.out_height, first % g.out_height);
            let count = (g.out_height - top).min(rows.end - first);
            let before = buffer.len() / row;
            (0..count).for_each(|y| begin(before + y * stride));
            let image = &x[image * g.image()..][..g.image()];
            for y in top * stride..(top + count - 1) * stride + g.kernel {
                match y.checked_sub(padding.top).filter(|y| *y < g.height) {
                    Some(y) => {
                        buffer.resize(buffer.len() + padding.left * g.channels, 0.0);
                        buffer.extend_from_slice(&image[y * g.row()..][..g.row()]);
                        buffer.resize(buffer.len() + padding.right * g.channels, 0.0);
                    }
                    None => buffer.resize(buffer.len() + row, 0.0),
                }
            }
            first += count;
        }
        Self { values: buffer, starts, row }
    }
}

/// Writes the output rows `rows`, counted through all images, to `y`.
pub(super) fn forward(
    g: &Geometry,
    (x, packed): (&[f32], &Packed),
    rows: Range<usize>,
    y: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    let _span = profile::span("direct convolution").flops(2 * rows.len() * g.out_row() * g.patch());
    let images = Padded::new(g, x, rows, buffer);
    pulp::Arch::new().dispatch(Tile { g, images: &images, packed, y });
}

struct Tile<'a> {
    g: &'a Geometry,
    images: &'a Padded<'a>,
    packed: &'a Packed,
    y: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.packed.block / S::F32_LANES {
            WIDE => self.run::<S, WIDE>(simd),
            _ => self.run::<S, NARROW>(simd),
        }
    }
}

impl Tile<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S) {
        let Self { g, images, packed, y } = self;
        let (line, block) = (g.kernel * g.channels, packed.block);
        let longest = longest(block);
        for (number, weights) in packed.weights.chunks_exact(g.patch() * block).enumerate() {
            // Whole rows of the kernel while they fit, else parts of one.
            let (lines, part) = ((longest / line).max(1), line.min(longest));
            for first in (0..g.kernel).step_by(lines) {
                let lines = lines.min(g.kernel - first);
                for start in (0..line).step_by(part) {
                    let part = part.min(line - start);
                    let runs = Runs {
                        offset: first * images.row + start,
                        row: images.row,
                        lines,
                        len: part,
                        weights: &weights[(first * line + start) * block..],
                        line: line * block,
                        begun: first + start > 0,
                    };
                    let pixels = images.starts.chunks(PIXELS).zip(y.chunks_mut(PIXELS * g.outputs));
                    for (starts, y) in pixels {
                        runs.add::<S, VECTORS>(simd, images.values, starts, (number * block, g.outputs), y);
                    }
                }
            }
        }
    }
}
