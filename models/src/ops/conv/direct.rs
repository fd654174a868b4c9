//! Dense convolution without patches: every number of a padded image is multiplied where it lies.
//!
//! In an image whose channels come last, the pixels under one row of the kernel are one run of numbers, and so are the weights of
//! that row for a block of outputs once they are packed. A few pixels of the result times a block of outputs stay in registers
//! while the runs go by. The order in which a number's products are added depends on the processor only.

mod strided;

use std::ops::Range;

use pulp::{Simd, WithSimd};

pub(in crate::ops) use self::strided::Strided;
use super::geometry::Geometry;
use super::kernel::{NARROW, ONE, PIXELS, Runs, WIDE, block, longest};
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
        Some(Self::blocks(weight, g.outputs, block(g.outputs)?))
    }

    /// Packs `[.., outputs]` in blocks of so many outputs.
    fn blocks(weight: &[f32], outputs: usize, block: usize) -> Self {
        let mut weights = Vec::with_capacity(weight.len());
        for first in (0..outputs).step_by(block) {
            let rows = weight.chunks_exact(outputs);
            rows.for_each(|row| weights.extend_from_slice(&row[first..first + block]));
        }
        Self { weights, block }
    }
}

/// Padded images under some rows of the result, where the patch of each pixel begins, and where its result does.
struct Padded<'a> {
    values: &'a [f32],
    starts: Vec<usize>,
    places: Vec<usize>,
    /// Numbers in a row.
    row: usize,
}

impl<'a> Padded<'a> {
    /// Under the output rows `rows`, counted through all images.
    fn new(g: &Geometry, x: &'a [f32], rows: Range<usize>, buffer: &'a mut Vec<f32>) -> Self {
        let (stride, padding) = (g.conv.stride, g.conv.padding);
        let width = g.width + padding.left + padding.right;
        let row = width * g.channels;
        let places = (0..rows.len() * g.out_width).map(|pixel| pixel * g.outputs).collect();
        let mut starts = Vec::with_capacity(rows.len() * g.out_width);
        let mut begin = |row: usize| starts.extend((0..g.out_width).map(|x| (row * width + x * stride) * g.channels));
        if padding == 0.into() {
            rows.for_each(|y| begin(y / g.out_height * g.height + y % g.out_height * stride));
            return Self { values: x, starts, places, row };
        }
        let (mut first, mut end) = (rows.start, 0);
        let (left, columns) = (padding.left * g.channels, g.row());
        while first < rows.end {
            // The rows of one image.
            let (image, top) = (first / g.out_height, first % g.out_height);
            let count = (g.out_height - top).min(rows.end - first);
            (0..count).for_each(|y| begin(end / row + y * stride));
            let image = &x[image * g.image()..][..g.image()];
            let under = top * stride..(top + count - 1) * stride + g.kernel;
            // Longer than it must be, so that it is not cleared again and again.
            let needed = end + under.len() * row;
            if buffer.len() < needed {
                buffer.resize(needed, 0.0);
            }
            for (y, to) in under.zip(buffer[end..needed].chunks_exact_mut(row)) {
                let Some(y) = y.checked_sub(padding.top).filter(|y| *y < g.height) else {
                    to.fill(0.0);
                    continue;
                };
                to[..left].fill(0.0);
                to[left..left + columns].copy_from_slice(&image[y * columns..][..columns]);
                to[left + columns..].fill(0.0);
            }
            (first, end) = (first + count, needed);
        }
        Self { values: buffer, starts, places, row }
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
    run(&images, packed, (g.kernel, g.kernel * g.channels), y);
}

/// Writes the results of patches of `lines` runs of `line` numbers.
fn run(images: &Padded<'_>, packed: &Packed, (lines, line): (usize, usize), y: &mut [f32]) {
    pulp::Arch::new().dispatch(Tile { images, packed, lines, line, y });
}

struct Tile<'a> {
    images: &'a Padded<'a>,
    packed: &'a Packed,
    lines: usize,
    line: usize,
    y: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.packed.block / S::F32_LANES {
            WIDE => self.run::<S, WIDE>(simd),
            NARROW => self.run::<S, NARROW>(simd),
            _ => self.run::<S, ONE>(simd),
        }
    }
}

impl Tile<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S) {
        let Self { images, packed, lines: all, line, y } = self;
        let block = packed.block;
        let longest = longest(block);
        for (number, weights) in packed.weights.chunks_exact(all * line * block).enumerate() {
            // Whole rows of the kernel while they fit, else parts of one.
            let (lines, part) = ((longest / line).max(1), line.min(longest));
            for first in (0..all).step_by(lines) {
                let lines = lines.min(all - first);
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
                    let pixels = images.starts.chunks(PIXELS).zip(images.places.chunks(PIXELS));
                    for (starts, places) in pixels {
                        runs.add::<S, VECTORS>(simd, (images.values, starts), number * block, (&mut *y, places));
                    }
                }
            }
        }
    }
}
