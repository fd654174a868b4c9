//! Dense convolution of 3 x 3 kernels with fewer products.
//!
//! Winograd's F(2 x 2, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1): a square of
//! 4 x 4 pixels of the image and a kernel become 16 numbers each, and sums of their products over the channels four pixels of
//! the result: Y = A' [(G g G') * (B' d B)] A. That is 16 products in place of 36.

#![allow(clippy::needless_range_loop, reason = "rows and columns of small matrices read best by their numbers")]

mod multiply;
mod squares;
mod transforms;

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use self::multiply::Multiply;
use self::squares::{Square, squares};
use self::transforms::{gathered, mixed, spread};
use super::super::matmul::bf16;
#[cfg(target_arch = "x86_64")]
use super::super::matmul::{
    Matrix,
    packed::{Right, Unit},
};
use super::super::matmul::{Precision, precision};
use super::geometry::Geometry;
use super::kernel::{NARROW, PIXELS, block, lanes};
use crate::profile;

/// Pixels of the result on a side of a square.
const OUT: usize = 2;
/// Pixels of the image on a side of a square, beyond those of the result.
const MORE: usize = 2;
/// Pixels of the image on a side of a square.
const SIDE: usize = OUT + MORE;
/// Numbers that stand for a square.
const POINTS: usize = SIDE * SIDE;
/// Memory of the squares that are worked together, in bytes.
const MEMORY: usize = 512 << 10;
/// Numbers between those of a point and the next.
const SPACE: usize = 16;
/// Pixels of the result in a tile, about.
const TILE: usize = 1024;
/// Tiles that a batch should have at least.
const TILES: usize = 4;

/// The weights of a convolution, transformed.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Transformed {
    weights: Weights,
    block: usize,
}

/// Transformed weights for [`Precision`].
#[derive(Clone, Debug)]
enum Weights {
    /// `[outputs / block, points of a square, channels, block]`.
    Full(Vec<f32>),
    /// As `Full`, of numbers that bfloat16 has.
    Rounded(Vec<f32>),
    /// `[outputs / block, points of a square]` matrices `[channels, block]`.
    #[cfg(target_arch = "x86_64")]
    Packed(Unit, Vec<Right>),
}

impl Weights {
    fn new(mut full: Vec<f32>, channels: usize, block: usize) -> Self {
        if precision() == Precision::F32 {
            return Self::Full(full);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(unit) = Unit::best() {
            return Self::packed(unit, &full, channels, block);
        }
        bf16::round(&mut full);
        Self::Rounded(full)
    }

    #[cfg(target_arch = "x86_64")]
    fn packed(unit: Unit, full: &[f32], channels: usize, block: usize) -> Self {
        let matrices = full.par_chunks(channels * block).map(|matrix| Matrix::new(matrix, channels, block));
        Self::Packed(unit, matrices.map(|matrix| Right::new(unit, matrix)).collect())
    }
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
        weights.par_chunks_mut(POINTS * g.channels * block).enumerate().for_each(|(number, to)| {
            pulp::Arch::new().dispatch(TransformWeights { g, weight, block, first: number * block, to });
        });
        Some(Self { weights: Weights::new(weights, g.channels, block), block })
    }
}

/// G g G' of the kernels of a block of outputs.
struct TransformWeights<'a> {
    g: &'a Geometry,
    weight: &'a [f32],
    block: usize,
    /// The first output.
    first: usize,
    to: &'a mut [f32],
}

impl WithSimd for TransformWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run::<S>(simd);
    }
}

impl TransformWeights<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { g, weight, block, first, to, .. } = self;
        for channel in 0..g.channels {
            for vector in 0..block / S::F32_LANES {
                let output = first + vector * S::F32_LANES;
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
                    let column: [S::f32s; SIDE] = spread(simd, [rows[0][x], rows[1][x], rows[2][x]]);
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

/// Output rows in a tile, counted through all images: whole images, or whole rows of squares. Tiles are for several threads if
/// they are `shared`.
pub(super) fn tile_rows(g: &Geometry, shared: bool) -> usize {
    let image = g.out_height * g.out_width;
    let most = if shared { g.batch.div_ceil(TILES).max(1) } else { usize::MAX };
    match TILE / image {
        0 => (TILE / g.out_width / OUT).max(1) * OUT,
        images => images.min(most) * g.out_height,
    }
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
    let block = transformed.block;
    let width = g.out_width.next_multiple_of(OUT) + MORE;
    let (squares, padded) = squares(g, rows, width);
    // Of those that fit, as many at a time each time.
    let most = (MEMORY / (4 * POINTS * (g.channels + block))).max(PIXELS);
    let together = squares.len().div_ceil(squares.len().div_ceil(most).max(1)).next_multiple_of(PIXELS);
    // A little more than a power of two, so that the points of a square do not share a place of the cache.
    let strides = (together * g.channels + SPACE, together * block + SPACE);
    let needed = padded.len * width * g.channels;
    let scratch = POINTS * strides.0;
    buffer.resize(buffer.len().max(needed + scratch + POINTS * strides.1), 0.0);
    let (images, rest) = buffer.split_at_mut(needed);
    padded.copy(g, x, width, images);
    let (points, products) = rest.split_at_mut(scratch);
    let arch = pulp::Arch::new();
    let mut multiply = Multiply::new(transformed, (g.channels, together), strides);
    for squares in squares.chunks(together) {
        arch.dispatch(Transform {
            squares,
            channels: g.channels,
            images,
            row: width * g.channels,
            points,
            stride: strides.0,
        });
        multiply.begin(points, squares.len());
        for number in 0..g.outputs / block {
            multiply.block(number, points, products, squares.len());
            arch.dispatch(Write { squares, products, block, stride: strides.1, g, first: number * block, y });
        }
    }
}

/// B' d B of squares.
struct Transform<'a> {
    squares: &'a [Square],
    channels: usize,
    /// Padded.
    images: &'a [f32],
    /// Numbers in a row of them.
    row: usize,
    /// `[points, squares, channels]`.
    points: &'a mut [f32],
    /// Numbers from a point to the next.
    stride: usize,
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run::<S>(simd);
    }
}

impl Transform<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { squares, channels, images, row, points, stride, .. } = self;
        let points = S::as_mut_simd_f32s(points).0;
        let (vectors, stride) = (channels / S::F32_LANES, stride / S::F32_LANES);
        let zero = simd.splat_f32s(0.0);
        for (number, square) in squares.iter().enumerate() {
            let mut lines: [&[S::f32s]; SIDE] = [&[]; SIDE];
            for (y, line) in lines.iter_mut().enumerate() {
                *line = S::as_simd_f32s(&images[square.from + y * row..][..SIDE * channels]).0;
            }
            for vector in 0..vectors {
                let mut rows = [[zero; SIDE]; SIDE];
                for y in 0..SIDE {
                    let mut pixels = [zero; SIDE];
                    for x in 0..SIDE {
                        pixels[x] = lines[y][x * vectors + vector];
                    }
                    rows[y] = mixed(simd, pixels);
                }
                for x in 0..SIDE {
                    let mut column = [zero; SIDE];
                    for y in 0..SIDE {
                        column[y] = rows[y][x];
                    }
                    column = mixed(simd, column);
                    for y in 0..SIDE {
                        points[(y * SIDE + x) * stride + number * vectors + vector] = column[y];
                    }
                }
            }
        }
    }
}

/// A' M A of squares, what of them is there, for the block of outputs from `first` on.
struct Write<'a> {
    squares: &'a [Square],
    /// `[points, squares, block]`.
    products: &'a [f32],
    block: usize,
    /// Numbers from the products of a point to the next.
    stride: usize,
    g: &'a Geometry,
    first: usize,
    y: &'a mut [f32],
}

impl WithSimd for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run::<S>(simd);
    }
}

impl Write<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { squares, products, block, stride, g, first, y, .. } = self;
        let products = S::as_simd_f32s(products).0;
        let (vectors, stride) = (block / S::F32_LANES, stride / S::F32_LANES);
        let zero = simd.splat_f32s(0.0);
        for (number, square) in squares.iter().enumerate() {
            for vector in 0..vectors {
                let mut rows = [[zero; OUT]; SIDE];
                for y in 0..SIDE {
                    let mut sums = [zero; SIDE];
                    for x in 0..SIDE {
                        sums[x] = products[(y * SIDE + x) * stride + number * vectors + vector];
                    }
                    rows[y] = gathered(simd, sums);
                }
                for x in 0..OUT {
                    let mut column = [zero; SIDE];
                    for y in 0..SIDE {
                        column[y] = rows[y][x];
                    }
                    let values: [S::f32s; OUT] = gathered(simd, column);
                    if x < square.columns {
                        for row in 0..OUT {
                            if row >= square.rows.0 && row < square.rows.1 {
                                let pixel = (square.to + (row * g.out_width + x) as isize) as usize;
                                let to = &mut y[pixel * g.outputs + first + vector * S::F32_LANES..][..S::F32_LANES];
                                S::as_mut_simd_f32s(to).0[0] = values[row];
                            }
                        }
                    }
                }
            }
        }
    }
}
