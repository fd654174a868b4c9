//! Depthwise convolution of stride 1 of whole vectors of channels: the sums of a strip of pixels stay in registers, and every
//! pixel is read once for all of a row of the kernel.

use pulp::{Simd, WithSimd};

use super::super::super::chunks::in_chunks;
use super::super::geometry::Geometry;
use super::super::kernel::lanes;

/// Pixels whose sums are in registers together; sides of images are often multiples of it.
const STRIP: usize = 7;
/// Columns of the widest kernel.
const WIDEST: usize = 7;
/// Pixels under a strip of it.
const UNDER: usize = STRIP + WIDEST - 1;

/// Whether [`forward`] computes such a convolution.
pub(super) fn fits(g: &Geometry) -> bool {
    matches!(g.kernel, 3 | 5 | 7) && g.conv.stride == 1 && g.channels.is_multiple_of(lanes())
}

/// `[batch, out_height, out_width, channels]`.
pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    // The weights of a vector of channels lie together: `[vectors, kernel, kernel, lanes]`.
    let mut packed = Vec::with_capacity(weight.len());
    for vector in (0..g.channels).step_by(lanes()) {
        weight.chunks_exact(g.channels).for_each(|tap| packed.extend_from_slice(&tap[vector..vector + lanes()]));
    }
    let weight = &packed;
    in_chunks(
        g.out_rows() * g.out_row(),
        g.out_row(),
        || (),
        |(), row, out| {
            let image = &x[row / g.out_height * g.image()..][..g.image()];
            pulp::Arch::new().dispatch(Row { g, y: row % g.out_height, image, weight, bias, out });
        },
    )
}

/// Output row `y` of an image.
struct Row<'a> {
    g: &'a Geometry,
    y: usize,
    image: &'a [f32],
    /// Packed.
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.g.kernel {
            3 => self.run::<S, 3>(simd),
            5 => self.run::<S, 5>(simd),
            _ => self.run::<S, 7>(simd),
        }
    }
}

impl Row<'_> {
    #[inline(always)]
    fn run<S: Simd, const KERNEL: usize>(self, simd: S) {
        let Self { g, y, image, weight, bias, out } = self;
        let (vectors, padding) = (g.channels / S::F32_LANES, g.conv.padding);
        let (image, weight) = (S::as_simd_f32s(image).0, S::as_simd_f32s(weight).0);
        let bias = bias.map(|bias| S::as_simd_f32s(bias).0);
        // The rows of the kernel that are over the image.
        let lines = padding.top.saturating_sub(y).min(KERNEL)..(g.height + padding.top).saturating_sub(y).min(KERNEL);
        for (strip, out) in out.chunks_mut(STRIP * g.channels).enumerate() {
            let (out, at) = (S::as_mut_simd_f32s(out).0, strip * STRIP);
            // The pixels under the strip that are of the image, and the image's column at the first.
            let under =
                padding.left.saturating_sub(at).min(UNDER)..(g.width + padding.left).saturating_sub(at).min(UNDER);
            let column = (at + under.start).saturating_sub(padding.left);
            for vector in 0..vectors {
                let mut sums = [simd.splat_f32s(0.0); STRIP];
                if let Some(bias) = bias {
                    sums = [bias[vector]; STRIP];
                }
                for line in lines.clone() {
                    let row = (y + line - padding.top) * g.width * vectors;
                    let mut pixels = [simd.splat_f32s(0.0); UNDER];
                    let from = image[row..row + g.width * vectors].get(column * vectors + vector..).unwrap_or_default();
                    if under.start == 0 && under.end == UNDER {
                        for pixel in 0..STRIP + KERNEL - 1 {
                            pixels[pixel] = from[pixel * vectors];
                        }
                    } else {
                        for pixel in 0..STRIP + KERNEL - 1 {
                            if under.contains(&pixel) {
                                pixels[pixel] = from[(pixel - under.start) * vectors];
                            }
                        }
                    }
                    for tap in 0..KERNEL {
                        let weight = weight[(vector * KERNEL + line) * KERNEL + tap];
                        for pixel in 0..STRIP {
                            sums[pixel] = simd.mul_add_e_f32s(weight, pixels[pixel + tap], sums[pixel]);
                        }
                    }
                }
                for (out, sum) in out[vector..].iter_mut().step_by(vectors).zip(sums) {
                    *out = sum;
                }
            }
        }
    }
}
