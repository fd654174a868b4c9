//! Depthwise convolution: every channel by itself, the loops over the channels innermost.

use rayon::prelude::*;

use super::super::block::sum;
use super::super::simd::{self, Kernel};
use super::geometry::Geometry;

/// Tasks that a weight gradient is split into.
const PARTS: usize = 16;

/// `[batch, out_height, out_width, channels]`.
pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let mut y = vec![0.0; g.out_rows() * g.out_row()];
    y.par_chunks_mut(g.out_row()).enumerate().for_each(|(row, y)| {
        if let Some(bias) = bias {
            y.chunks_exact_mut(g.outputs).for_each(|y| y.copy_from_slice(bias));
        }
        let image = &x[row / g.out_height * g.image()..][..g.image()];
        simd::dispatch_kernel(Row { g, y: row % g.out_height, each: Forward { image, weight, out: y } });
    });
    y
}

/// `[batch, height, width, channels]`.
pub(super) fn input_gradient(g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.0; g.batch * g.image()];
    let image = g.out_height * g.out_row();
    dx.par_chunks_mut(g.image()).zip(dy.par_chunks(image)).for_each(|(dx, dy)| {
        for (y, dy) in dy.chunks_exact(g.out_row()).enumerate() {
            simd::dispatch_kernel(Row { g, y, each: InputGradient { weight, dy, dx } });
        }
    });
    dx
}

/// `[kernel, kernel, 1, channels]`.
pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let len = g.kernel * g.kernel * g.channels;
    let per_part = g.out_rows().div_ceil(PARTS).max(1);
    let parts = dy.par_chunks(per_part * g.out_row()).enumerate().map(|(part, dy)| {
        let mut dw = vec![0.0; len];
        for (row, dy) in (part * per_part..).zip(dy.chunks_exact(g.out_row())) {
            let image = &x[row / g.out_height * g.image()..][..g.image()];
            let each = WeightGradient { image, dy, dw: &mut dw };
            simd::dispatch_kernel(Row { g, y: row % g.out_height, each });
        }
        dw
    });
    sum(parts.collect(), len)
}

/// What happens where a number of the kernel is over a pixel. All arguments are starts of `channels` numbers: of the pixel
/// in its image, of the number in the kernel, of the output pixel in its row.
trait Each {
    fn each(&mut self, channels: usize, pixel: usize, tap: usize, out: usize);
}

/// All pairs of kernel and pixels of output row `y`.
struct Row<'a, E> {
    g: &'a Geometry,
    y: usize,
    each: E,
}

impl<E: Each> Kernel for Row<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let (g, c) = (self.g, self.g.channels);
        for x in 0..g.out_width {
            let (taps, from) = g.taps(x);
            for line in 0..g.kernel {
                let Some(row) = g.input_row(self.y, line) else { continue };
                for (tap, column) in taps.clone().zip(from..) {
                    self.each.each(c, row * g.row() + column * c, (line * g.kernel + tap) * c, x * c);
                }
            }
        }
    }
}

struct Forward<'a> {
    image: &'a [f32],
    weight: &'a [f32],
    out: &'a mut [f32],
}

impl Each for Forward<'_> {
    #[inline(always)]
    fn each(&mut self, channels: usize, pixel: usize, tap: usize, out: usize) {
        let (x, weight) = (&self.image[pixel..][..channels], &self.weight[tap..][..channels]);
        for ((out, x), weight) in self.out[out..][..channels].iter_mut().zip(x).zip(weight) {
            *out += x * weight;
        }
    }
}

struct InputGradient<'a> {
    weight: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Each for InputGradient<'_> {
    #[inline(always)]
    fn each(&mut self, channels: usize, pixel: usize, tap: usize, out: usize) {
        let (dy, weight) = (&self.dy[out..][..channels], &self.weight[tap..][..channels]);
        for ((dx, dy), weight) in self.dx[pixel..][..channels].iter_mut().zip(dy).zip(weight) {
            *dx += dy * weight;
        }
    }
}

struct WeightGradient<'a> {
    image: &'a [f32],
    dy: &'a [f32],
    dw: &'a mut [f32],
}

impl Each for WeightGradient<'_> {
    #[inline(always)]
    fn each(&mut self, channels: usize, pixel: usize, tap: usize, out: usize) {
        let (x, dy) = (&self.image[pixel..][..channels], &self.dy[out..][..channels]);
        for ((dw, x), dy) in self.dw[tap..][..channels].iter_mut().zip(x).zip(dy) {
            *dw += x * dy;
        }
    }
}
