//! Depthwise convolution: every channel by itself, the loops over the channels innermost.

mod strips;

use rayon::prelude::*;

use super::super::block::sum;
use super::super::simd::{self, Kernel};
use super::geometry::Geometry;

/// Tasks that a weight gradient is split into.
const PARTS: usize = 16;

/// `[batch, out_height, out_width, channels]`.
pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    if strips::fits(g) {
        return strips::forward(g, x, weight, bias);
    }
    let mut y = vec![0.0; g.out_rows() * g.out_row()];
    y.par_chunks_mut(g.out_row()).enumerate().for_each(|(row, out)| {
        if let Some(bias) = bias {
            out.chunks_exact_mut(g.outputs).for_each(|out| out.copy_from_slice(bias));
        }
        let image = &x[row / g.out_height * g.image()..][..g.image()];
        simd::dispatch_kernel(Forward { g, y: row % g.out_height, image, weight, out });
    });
    y
}

/// `[batch, height, width, channels]`.
pub(super) fn input_gradient(g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    if let Some(reversed) = g.reversed() {
        let turned: Vec<f32> = weight.chunks_exact(g.channels).rev().flatten().copied().collect();
        return forward(&reversed, dy, &turned, None);
    }
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

/// Output row `y` of an image; added to `out`.
struct Forward<'a> {
    g: &'a Geometry,
    y: usize,
    image: &'a [f32],
    weight: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        for x in 0..self.g.out_width {
            let mut channel = 0;
            while channel + 16 <= self.g.channels {
                self.add::<16>(x, channel);
                channel += 16;
            }
            while channel < self.g.channels {
                self.add::<1>(x, channel);
                channel += 1;
            }
        }
    }
}

impl Forward<'_> {
    /// `N` channels from `channel` on of pixel `x`: few enough for their sums to stay in registers.
    #[inline(always)]
    fn add<const N: usize>(&mut self, x: usize, channel: usize) {
        let (g, c) = (self.g, self.g.channels);
        let (taps, from) = g.taps(x);
        let out = &mut self.out[x * c + channel..][..N];
        let mut sums = [0.0f32; N];
        sums.copy_from_slice(out);
        for line in 0..g.kernel {
            let Some(row) = g.input_row(self.y, line) else { continue };
            for (tap, column) in taps.clone().zip(from..) {
                let pixel = self.image[row * g.row() + column * c + channel..].first_chunk::<N>();
                let weight = self.weight[(line * g.kernel + tap) * c + channel..].first_chunk::<N>();
                if let (Some(pixel), Some(weight)) = (pixel, weight) {
                    for i in 0..N {
                        sums[i] += pixel[i] * weight[i];
                    }
                }
            }
        }
        out.copy_from_slice(&sums);
    }
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
