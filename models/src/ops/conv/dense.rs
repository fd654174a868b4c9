//! Dense convolution: a matrix product of patches, tile by tile.

use rayon::prelude::*;

use super::super::block::sum;
use super::super::matmul::{Matrix, Threads, add_matmul, matmul};
use super::super::simd::{self, Kernel};
use super::geometry::Geometry;

/// Patches in a tile: enough for the matrix product to run at its speed.
const TILE: usize = 256;
/// Tasks that a weight gradient is split into.
const PARTS: usize = 16;
/// Memory that the tasks' own weight gradients may take together, in bytes.
const GRADIENT_MEMORY: usize = 256 << 20;

/// Output rows in a tile.
fn tile_rows(g: &Geometry) -> usize {
    TILE.div_ceil(g.out_width)
}

/// `[batch, out_height, out_width, outputs]`.
pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let rows = tile_rows(g);
    let weight = Matrix::new(weight, g.patch(), g.outputs);
    let mut y = vec![0.0; g.out_rows() * g.out_row()];
    y.par_chunks_mut(rows * g.out_row()).enumerate().for_each_init(Vec::new, |buffer, (tile, y)| {
        let pixels = y.len() / g.outputs;
        let patches = patches(g, x, (tile * rows, pixels), buffer);
        let patches = Matrix::new(patches, pixels, g.patch());
        match bias {
            None => matmul(y, patches, weight, 1.0, Threads::One),
            Some(bias) => {
                y.chunks_exact_mut(g.outputs).for_each(|y| y.copy_from_slice(bias));
                add_matmul(y, patches, weight);
            }
        }
    });
    y
}

/// The `pixels` patches from output row `first` on, gathered to `buffer` unless they lie so in memory.
fn patches<'a>(g: &Geometry, x: &'a [f32], (first, pixels): (usize, usize), buffer: &'a mut Vec<f32>) -> &'a [f32] {
    let len = pixels * g.patch();
    if g.is_pointwise() {
        return &x[first * g.out_width * g.channels..][..len];
    }
    buffer.resize(len, 0.0);
    g.gather(x, first..first + pixels / g.out_width, buffer);
    buffer
}

/// `[batch, height, width, channels]`.
pub(super) fn input_gradient(g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let rows = tile_rows(g).min(g.out_height);
    let weight = Matrix::new(weight, g.patch(), g.outputs).t();
    let mut dx = vec![0.0; g.batch * g.image()];
    let images = dx.par_chunks_mut(g.image()).zip(dy.par_chunks(g.out_height * g.out_row()));
    images.for_each_init(Vec::new, |patches, (dx, dy)| {
        for (tile, dy) in dy.chunks(rows * g.out_row()).enumerate() {
            let pixels = dy.len() / g.outputs;
            patches.resize(pixels * g.patch(), 0.0);
            matmul(patches, Matrix::new(dy, pixels, g.outputs), weight, 1.0, Threads::One);
            simd::dispatch_kernel(Scatter { g, patches, first: tile * rows, image: dx });
        }
    });
    dx
}

/// Adds patches from output row `first` on to an image.
struct Scatter<'a> {
    g: &'a Geometry,
    patches: &'a [f32],
    first: usize,
    image: &'a mut [f32],
}

impl Kernel for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.patches.len() / (self.g.out_width * self.g.patch());
        self.g.scatter(self.patches, self.first..self.first + rows, self.image);
    }
}

/// `[kernel, kernel, channels, outputs]`.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let len = g.patch() * g.outputs;
    let parts = (GRADIENT_MEMORY / (4 * len)).clamp(2, PARTS);
    let rows = tile_rows(g);
    let per_part = g.out_rows().div_ceil(rows).div_ceil(parts).max(1) * rows;
    let parts = dy.par_chunks(per_part * g.out_row()).enumerate().map(|(part, dy)| {
        let (mut dw, mut buffer) = (vec![0.0; len], Vec::new());
        for (tile, dy) in dy.chunks(rows * g.out_row()).enumerate() {
            let pixels = dy.len() / g.outputs;
            let patches = patches(g, x, (part * per_part + tile * rows, pixels), &mut buffer);
            add_matmul(&mut dw, Matrix::new(patches, pixels, g.patch()).t(), Matrix::new(dy, pixels, g.outputs));
        }
        dw
    });
    sum(parts.collect(), len)
}
