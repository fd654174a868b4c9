//! Dense convolution of 3 x 3 kernels with 16 products in place of 36.
//!
//! Winograd's F(2 x 2, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1): a square of
//! 4 x 4 pixels of the image and a kernel become 16 numbers each, and sums of their products over the channels four pixels of
//! the result: Y = A' [(G g G') * (B' d B)] A. The transforms only add and halve.

#![allow(clippy::needless_range_loop, reason = "rows and columns of small matrices read best by their numbers")]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::geometry::Geometry;
use super::kernel::{NARROW, PIXELS, Runs, WIDE, block, lanes, longest};
use crate::profile;

/// Numbers that stand for a square.
const POINTS: usize = 16;
/// Pixels of the result on a side of a square.
const OUT: usize = 2;
/// Pixels of the image on a side of a square.
const SIDE: usize = 4;
/// Memory of the squares that are worked together, in bytes.
const MEMORY: usize = 512 << 10;
/// Pixels of the result in a tile, about.
const TILE: usize = 256;

/// The weights of a convolution, transformed: `[outputs / block, 16, channels, block]`.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Transformed {
    weights: Vec<f32>,
    block: usize,
}

impl Transformed {
    /// Transforms `[3, 3, channels, outputs]`; nothing where the convolution is another one, channels or outputs do not fit the
    /// vectors of this processor, or so many squares would reach over the edge that nothing is saved.
    pub(in crate::ops) fn new(g: &Geometry, weight: &[f32]) -> Option<Self> {
        let squares = g.out_height.div_ceil(OUT) * g.out_width.div_ceil(OUT);
        let saves = POINTS * squares < 9 * g.out_height * g.out_width;
        if g.kernel != 3 || g.conv.stride != 1 || !g.channels.is_multiple_of(lanes()) || !saves {
            return None;
        }
        let block = block(g.outputs).filter(|block| *block >= NARROW * lanes())?;
        let mut weights = vec![0.0; weight.len() / 9 * POINTS];
        pulp::Arch::new().dispatch(TransformWeights { g, weight, block, to: &mut weights });
        Some(Self { weights, block })
    }
}

/// G g G', halves and all, of every kernel.
struct TransformWeights<'a> {
    g: &'a Geometry,
    weight: &'a [f32],
    block: usize,
    to: &'a mut [f32],
}

impl WithSimd for TransformWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { g, weight, block, to } = self;
        for (number, to) in to.chunks_exact_mut(POINTS * g.channels * block).enumerate() {
            for channel in 0..g.channels {
                for vector in 0..block / S::F32_LANES {
                    let output = number * block + vector * S::F32_LANES;
                    let mut rows = [[simd.splat_f32s(0.0); SIDE]; 3];
                    for (y, row) in rows.iter_mut().enumerate() {
                        let mut taps = [simd.splat_f32s(0.0); 3];
                        for (x, tap) in taps.iter_mut().enumerate() {
                            let from = ((3 * y + x) * g.channels + channel) * g.outputs + output;
                            *tap = S::as_simd_f32s(&weight[from..from + S::F32_LANES]).0[0];
                        }
                        *row = spread(simd, taps);
                    }
                    for x in 0..SIDE {
                        let column = spread(simd, [rows[0][x], rows[1][x], rows[2][x]]);
                        for (y, value) in column.into_iter().enumerate() {
                            let point = y * SIDE + x;
                            let to = &mut to[(point * g.channels + channel) * block + vector * S::F32_LANES..];
                            S::as_mut_simd_f32s(&mut to[..S::F32_LANES]).0[0] = value;
                        }
                    }
                }
            }
        }
    }
}

/// Output rows in a tile, counted through all images: whole images, or an even number of rows.
pub(super) fn tile_rows(g: &Geometry) -> usize {
    let image = g.out_height * g.out_width;
    if image <= TILE { TILE / image * g.out_height } else { (TILE / g.out_width / OUT).max(1) * OUT }
}

/// A square of the result.
#[derive(Clone, Copy)]
struct Square {
    /// Where its 4 x 4 pixels begin among the padded images.
    from: usize,
    /// Its first pixel among those of the result, if all four were there.
    to: isize,
    /// Rows and columns of the result that are there.
    rows: (usize, usize),
    columns: usize,
}

/// Writes the output rows `rows`, counted through all images, to `y`.
pub(super) fn forward(
    g: &Geometry,
    (x, transformed): (&[f32], &Transformed),
    rows: Range<usize>,
    y: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    let _span = profile::span("winograd convolution").flops(2 * rows.len() * g.out_row() * g.patch());
    let width = (g.out_width.div_ceil(OUT) + 1) * OUT;
    let (squares, padded) = squares(g, rows, width);
    let block = transformed.block;
    let together = (MEMORY / (4 * POINTS * (g.channels + block))).max(1).next_multiple_of(PIXELS);
    let needed = padded.len * width * g.channels;
    let scratch = POINTS * together * g.channels;
    buffer.resize(buffer.len().max(needed + scratch + POINTS * together * block), 0.0);
    let (images, rest) = buffer.split_at_mut(needed);
    images.fill(0.0);
    padded.copy(g, x, width, images);
    let (points, products) = rest.split_at_mut(scratch);
    pulp::Arch::new().dispatch(Tile {
        g,
        images,
        row: width * g.channels,
        squares: &squares,
        together,
        transformed,
        points,
        products,
        y,
    });
}

/// Rows of images with their padding.
struct Rows {
    /// Image and padded row of it where each stretch begins, and its rows.
    stretches: Vec<(usize, usize, usize)>,
    len: usize,
}

impl Rows {
    /// Copies them, the padding of zeros around them, to `to`, `width` pixels each; it is zero before.
    fn copy(&self, g: &Geometry, x: &[f32], width: usize, to: &mut [f32]) {
        let (row, left) = (width * g.channels, g.conv.padding.left);
        // The padding may be wider than what is looked at.
        let columns = g.width.min(width.saturating_sub(left)) * g.channels;
        let mut to = to.chunks_exact_mut(row);
        for &(image, first, count) in &self.stretches {
            let image = &x[image * g.image()..][..g.image()];
            for (y, to) in (first..first + count).zip(&mut to) {
                if let Some(y) = y.checked_sub(g.conv.padding.top).filter(|y| *y < g.height) {
                    to[left * g.channels..][..columns].copy_from_slice(&image[y * g.row()..][..columns]);
                }
            }
        }
    }
}

/// The squares of output rows, and the rows of the images under them. Squares begin at even rows and columns of an image, so
/// that a pixel's last bits do not depend on the tile.
fn squares(g: &Geometry, rows: Range<usize>, width: usize) -> (Vec<Square>, Rows) {
    let (mut squares, mut padded) = (Vec::new(), Rows { stretches: Vec::new(), len: 0 });
    let mut first = rows.start;
    while first < rows.end {
        let (image, top) = (first / g.out_height, first % g.out_height);
        let end = g.out_height.min(top + rows.end - first);
        let even = top / OUT * OUT;
        for square in (even..end).step_by(OUT) {
            let here = (top.max(square) - square, OUT.min(end - square));
            for column in (0..g.out_width).step_by(OUT) {
                squares.push(Square {
                    from: ((padded.len + square - even) * width + column) * g.channels,
                    to: ((first - rows.start) * g.out_width + column) as isize
                        + (square as isize - top as isize) * g.out_width as isize,
                    rows: here,
                    columns: OUT.min(g.out_width - column),
                });
            }
        }
        let count = (end - even).next_multiple_of(OUT) + OUT;
        padded.stretches.push((image, even, count));
        padded.len += count;
        first += end - top;
    }
    (squares, padded)
}

struct Tile<'a> {
    g: &'a Geometry,
    /// Padded.
    images: &'a [f32],
    /// Numbers in a row of them.
    row: usize,
    squares: &'a [Square],
    /// Squares that are worked together.
    together: usize,
    transformed: &'a Transformed,
    /// `[16, together, channels]`.
    points: &'a mut [f32],
    /// `[16, together, block]`.
    products: &'a mut [f32],
    y: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.transformed.block / S::F32_LANES {
            WIDE => self.run::<S, WIDE>(simd),
            _ => self.run::<S, NARROW>(simd),
        }
    }
}

impl Tile<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S) {
        let Self { g, images, row, squares, together, transformed, points, products, y } = self;
        let Transformed { weights, block } = transformed;
        let starts: Vec<usize> = (0..together).map(|square| square * g.channels).collect();
        let places: Vec<usize> = (0..together).map(|square| square * block).collect();
        for squares in squares.chunks(together) {
            for (number, square) in squares.iter().enumerate() {
                transform::<S>(simd, g.channels, (images, row, square.from), (&mut *points, number, together));
            }
            for (number, weights) in weights.chunks_exact(POINTS * g.channels * block).enumerate() {
                let each = points.chunks_exact(together * g.channels).zip(products.chunks_exact_mut(together * block));
                for ((points, products), weights) in each.zip(weights.chunks_exact(g.channels * block)) {
                    let (starts, places) = (&starts[..squares.len()], &places[..squares.len()]);
                    multiply::<S, VECTORS>(simd, g.channels, (points, starts), weights, (products, places));
                }
                for (place, square) in squares.iter().enumerate() {
                    let result = Result { products, place, together, block: *block };
                    result.write::<S, VECTORS>(simd, square, (g, number * block), &mut *y);
                }
            }
        }
    }
}

/// B' d B of one square, to `[16, together, channels]` at `place`.
#[inline(always)]
fn transform<S: Simd>(
    simd: S,
    channels: usize,
    (images, row, from): (&[f32], usize, usize),
    (points, place, together): (&mut [f32], usize, usize),
) {
    let mut pixels: [[&[S::f32s]; SIDE]; SIDE] = [[&[]; SIDE]; SIDE];
    for (y, pixels) in pixels.iter_mut().enumerate() {
        for (x, pixel) in pixels.iter_mut().enumerate() {
            *pixel = S::as_simd_f32s(&images[from + y * row + x * channels..][..channels]).0;
        }
    }
    let zero = simd.splat_f32s(0.0);
    for vector in 0..channels / S::F32_LANES {
        let mut rows = [[zero; SIDE]; SIDE];
        for y in 0..SIDE {
            let [a, b, c, d] = pixels[y];
            rows[y] = mixed(simd, [a[vector], b[vector], c[vector], d[vector]]);
        }
        for x in 0..SIDE {
            let column = mixed(simd, [rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
            for y in 0..SIDE {
                let to = &mut points[((y * SIDE + x) * together + place) * channels + vector * S::F32_LANES..];
                S::as_mut_simd_f32s(&mut to[..S::F32_LANES]).0[0] = column[y];
            }
        }
    }
}

/// B' d.
#[inline(always)]
fn mixed<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; SIDE]) -> [S::f32s; SIDE] {
    [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
}

/// A' m.
#[inline(always)]
fn gathered<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; SIDE]) -> [S::f32s; OUT] {
    [simd.add_f32s(simd.add_f32s(a, b), c), simd.sub_f32s(simd.sub_f32s(b, c), d)]
}

/// G g.
#[inline(always)]
fn spread<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; SIDE] {
    let half = simd.splat_f32s(0.5);
    let sum = simd.add_f32s(a, c);
    [a, simd.mul_f32s(half, simd.add_f32s(sum, b)), simd.mul_f32s(half, simd.sub_f32s(sum, b)), c]
}

/// `[squares, block]` of one point: the squares' numbers times the weights.
#[inline(always)]
fn multiply<S: Simd, const VECTORS: usize>(
    simd: S,
    channels: usize,
    (points, starts): (&[f32], &[usize]),
    weights: &[f32],
    (products, places): (&mut [f32], &[usize]),
) {
    let block = VECTORS * S::F32_LANES;
    for first in (0..channels).step_by(longest(block)) {
        let runs = Runs {
            offset: first,
            row: 0,
            lines: 1,
            len: longest(block).min(channels - first),
            weights: &weights[first * block..],
            line: 0,
            begun: first > 0,
        };
        for (starts, places) in starts.chunks(PIXELS).zip(places.chunks(PIXELS)) {
            runs.add::<S, VECTORS>(simd, (points, starts), 0, (products, places));
        }
    }
}

/// The 16 sums of a square, for a block of outputs.
struct Result<'a> {
    products: &'a [f32],
    place: usize,
    together: usize,
    block: usize,
}

impl Result<'_> {
    /// Writes A' M A, what of it is there.
    #[inline(always)]
    fn write<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        square: &Square,
        (g, first): (&Geometry, usize),
        y: &mut [f32],
    ) {
        let mut sums: [&[S::f32s]; POINTS] = [&[]; POINTS];
        for (point, sums) in sums.iter_mut().enumerate() {
            *sums =
                S::as_simd_f32s(&self.products[(point * self.together + self.place) * self.block..][..self.block]).0;
        }
        let zero = simd.splat_f32s(0.0);
        for vector in 0..VECTORS {
            let mut rows = [[zero; OUT]; SIDE];
            for y in 0..SIDE {
                let [a, b, c, d] = [sums[y * SIDE], sums[y * SIDE + 1], sums[y * SIDE + 2], sums[y * SIDE + 3]];
                rows[y] = gathered(simd, [a[vector], b[vector], c[vector], d[vector]]);
            }
            for x in 0..square.columns {
                let values = gathered(simd, [rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
                for row in square.rows.0..square.rows.1 {
                    let pixel = (square.to + (row * g.out_width + x) as isize) as usize;
                    let to = &mut y[pixel * g.outputs + first + vector * S::F32_LANES..][..S::F32_LANES];
                    S::as_mut_simd_f32s(to).0[0] = values[row];
                }
            }
        }
    }
}
