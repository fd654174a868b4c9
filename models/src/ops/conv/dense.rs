//! Dense convolution, tile by tile: without patches where it is faster, else a matrix product of patches.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use rayon::prelude::*;

use super::super::block::sum;
use super::super::chunks::in_chunks;
use super::super::matmul::{Matrix, Threads, add_matmul, matmul};
use super::super::simd::{self, Kernel};
pub(in crate::ops) use super::direct::Strided;
use super::direct::{self, Packed};
use super::geometry::Geometry;
#[cfg(target_arch = "x86_64")]
use super::tiled::{self, Tiled};
use super::winograd::{self, Transformed};

/// Patches in a tile: enough for the matrix product to run at its speed, few enough to stay in cache and to share out.
const TILE: RangeInclusive<usize> = 128..=384;
/// Memory of a tile of patches, in bytes.
const TILE_MEMORY: usize = 4 << 20;
/// Tiles that a batch should have at least.
const TILES: usize = 16;
/// Tasks that a weight gradient is split into.
const PARTS: usize = 16;
/// Memory that the tasks' own weight gradients may take together, in bytes.
const GRADIENT_MEMORY: usize = 256 << 20;

/// Output rows in a tile, counted through all images.
fn tile_rows(g: &Geometry) -> usize {
    let fitting = TILE_MEMORY / (4 * g.patch());
    let pixels = (g.out_rows() * g.out_width / TILES).min(fitting).clamp(*TILE.start(), *TILE.end());
    pixels.div_ceil(g.out_width)
}

/// The weights `[kernel, kernel, channels, outputs]` of a convolution, packed where that is of use.
#[derive(Debug)]
pub(in crate::ops) struct Weights<'a> {
    plain: Cow<'a, [f32]>,
    prepared: Prepared,
}

#[derive(Debug)]
enum Prepared {
    #[cfg(target_arch = "x86_64")]
    Tiled(Tiled),
    Transformed(Transformed),
    Packed(Packed),
    Plain,
}

impl<'a> Weights<'a> {
    pub(in crate::ops) fn new(g: &Geometry, plain: impl Into<Cow<'a, [f32]>>) -> Self {
        let plain = plain.into();
        #[cfg(target_arch = "x86_64")]
        if let Some(tiled) = Tiled::new(g, &plain) {
            return Self { plain, prepared: Prepared::Tiled(tiled) };
        }
        let packed = || Packed::new(g, &plain).map(Prepared::Packed);
        let prepared =
            Transformed::new(g, &plain).map(Prepared::Transformed).or_else(packed).unwrap_or(Prepared::Plain);
        Self { plain, prepared }
    }

    /// Output rows in a tile, for several threads or not.
    fn tile_rows(&self, g: &Geometry, shared: bool) -> usize {
        match &self.prepared {
            #[cfg(target_arch = "x86_64")]
            Prepared::Tiled(_) => winograd::tile_rows(g, shared),
            Prepared::Transformed(_) => winograd::tile_rows(g, shared),
            _ => tile_rows(g),
        }
    }
}

/// `[batch, out_height, out_width, outputs]`.
pub(super) fn forward(g: &Geometry, x: &[f32], weights: &Weights<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    let rows = weights.tile_rows(g, true);
    in_chunks(g.out_rows() * g.out_row(), rows * g.out_row(), Vec::new, |buffer, tile, y| {
        forward_tile(g, (x, weights, bias), tile * rows, y, buffer);
    })
}

/// As [`forward`] without a bias, on the calling thread; writes `y`.
pub(in crate::ops) fn forward_here(
    g: &Geometry,
    x: &[f32],
    weights: &Weights<'_>,
    y: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    let rows = weights.tile_rows(g, false);
    for (tile, y) in y.chunks_mut(rows * g.out_row()).enumerate() {
        forward_tile(g, (x, weights, None), tile * rows, y, buffer);
    }
}

/// The result from output row `first` on.
fn forward_tile(
    g: &Geometry,
    (x, weights, bias): (&[f32], &Weights<'_>, Option<&[f32]>),
    first: usize,
    y: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    let rows = first..first + y.len() / g.out_row();
    match &weights.prepared {
        #[cfg(target_arch = "x86_64")]
        Prepared::Tiled(tiled) => tiled::forward(g, (x, tiled), rows, y),
        Prepared::Transformed(transformed) => winograd::forward(g, (x, transformed), rows, y, buffer),
        Prepared::Packed(packed) => direct::forward(g, (x, packed), rows, y, buffer),
        Prepared::Plain => {
            let pixels = y.len() / g.outputs;
            let patches = Matrix::new(patches(g, x, (first, pixels), buffer), pixels, g.patch());
            let weight = Matrix::new(&weights.plain, g.patch(), g.outputs);
            let Some(bias) = bias else { return matmul(y, patches, weight, 1.0, Threads::One) };
            y.chunks_exact_mut(g.outputs).for_each(|y| y.copy_from_slice(bias));
            return add_matmul(y, patches, weight);
        }
    }
    if let Some(bias) = bias {
        y.chunks_exact_mut(g.outputs).for_each(|y| y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias));
    }
}

/// The `pixels` patches from output row `first` on, gathered to `buffer` unless they lie so in memory.
fn patches<'a>(g: &Geometry, x: &'a [f32], (first, pixels): (usize, usize), buffer: &'a mut Vec<f32>) -> &'a [f32] {
    let len = pixels * g.patch();
    if g.is_pointwise() {
        return &x[first * g.out_width * g.channels..][..len];
    }
    buffer.resize(len, 0.0);
    g.gather(x, first, buffer);
    buffer
}

/// `[batch, height, width, channels]`.
pub(super) fn input_gradient(g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    if let Some(reversed) = g.reversed() {
        return forward(&reversed, dy, &Weights::new(&reversed, turned(g, weight)), None);
    }
    // A task has the whole of an image, or several.
    let images = tile_rows(g).div_ceil(g.out_height);
    let strided = Strided::new(g, &turned(g, weight));
    in_chunks(g.batch * g.image(), images * g.image(), Vec::new, |buffer, task, dx| {
        let (batch, image) = (dx.len() / g.image(), g.out_height * g.out_row());
        let dy = &dy[task * images * image..][..batch * image];
        match &strided {
            Some(strided) => strided.input_gradient(&Geometry { batch, ..*g }, dy, dx, buffer),
            None => scatter(g, weight, dy, dx, buffer),
        }
    })
}

/// The kernel turned by 180 degrees, from outputs to channels: `[kernel, kernel, outputs, channels]`.
pub(in crate::ops) fn turned(g: &Geometry, weight: &[f32]) -> Vec<f32> {
    const BLOCK: usize = 16;
    let (channels, outputs) = (g.channels, g.outputs);
    let mut turned = vec![0.0; weight.len()];
    let taps = turned.par_chunks_mut(channels * outputs).rev().zip(weight.par_chunks(channels * outputs));
    taps.for_each(|(to, from)| {
        // In blocks, so that what is read and what is written stay in cache.
        for start in (0..channels).step_by(BLOCK) {
            let end = (start + BLOCK).min(channels);
            for (output, to) in to.chunks_exact_mut(channels).enumerate() {
                for channel in start..end {
                    to[channel] = from[channel * outputs + output];
                }
            }
        }
    });
    turned
}

/// Adds the input gradient to `dx` patch by patch, for strides that leave pixels out and channels that fill no vectors.
pub(in crate::ops) fn scatter(g: &Geometry, weight: &[f32], dy: &[f32], dx: &mut [f32], buffer: &mut Vec<f32>) {
    let weight = Matrix::new(weight, g.patch(), g.outputs).t();
    let rows = tile_rows(g);
    for (tile, dy) in dy.chunks(rows * g.out_row()).enumerate() {
        let pixels = dy.len() / g.outputs;
        buffer.resize(pixels * g.patch(), 0.0);
        matmul(buffer, Matrix::new(dy, pixels, g.outputs), weight, 1.0, Threads::One);
        simd::dispatch_kernel(Scatter { g, patches: buffer, first: tile * rows, images: dx });
    }
}

/// Adds patches from output row `first` on to images.
struct Scatter<'a> {
    g: &'a Geometry,
    patches: &'a [f32],
    first: usize,
    images: &'a mut [f32],
}

impl Kernel for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.g.scatter(self.patches, self.first, self.images);
    }
}

/// `[kernel, kernel, channels, outputs]`.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let len = g.patch() * g.outputs;
    let parts = (GRADIENT_MEMORY / (4 * len)).clamp(2, PARTS);
    let rows = tile_rows(g);
    let per_part = g.out_rows().div_ceil(rows).div_ceil(parts).max(1) * rows;
    let parts = dy.par_chunks(per_part * g.out_row()).enumerate().map(|(part, dy)| {
        let mut dw = vec![0.0; len];
        add_weight_gradient(g, x, (part * per_part, dy), &mut dw, &mut Vec::new());
        dw
    });
    sum(parts.collect(), len)
}

/// Adds the weight gradient of the output rows from `first` on, whose gradient is `dy`, to `dw`.
pub(in crate::ops) fn add_weight_gradient(
    g: &Geometry,
    x: &[f32],
    (first, dy): (usize, &[f32]),
    dw: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    #[cfg(target_arch = "x86_64")]
    if tiled::add_weight_gradient(g, x, (first, dy), dw) {
        return;
    }
    let rows = tile_rows(g);
    for (tile, dy) in dy.chunks(rows * g.out_row()).enumerate() {
        let pixels = dy.len() / g.outputs;
        let patches = Matrix::new(patches(g, x, (first + tile * rows, pixels), buffer), pixels, g.patch());
        add_matmul(dw, patches.t(), Matrix::new(dy, pixels, g.outputs));
    }
}
