//! Resizing of images whose channels come last.
//!
//! Every way of resizing here takes each pixel from a window of rows and columns with fixed weights, so that one operation
//! serves them all, and its gradient is the same operation with the windows turned round.

mod windows;

use self::windows::Windows;
use super::chunks::in_chunks;
use super::operations::fused;
use super::simd::{self, Kernel};
use super::storage::{Values, slice};
use crate::profile;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// Bilinear interpolation with half-pixel centres and the edge repeated: pixel i of the result is at
/// (i + 1/2) * old / new - 1/2.
///
/// Shapes: x `[n, height, width, channels]`, result `[n, new height, new width, channels]`.
///
/// # Errors
/// Sizes of 0.
pub fn resize_bilinear(x: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    resize(x, (height, width), |old, new| Windows::triangle(old, new, false))
}

/// As [`resize_bilinear`], but with a triangle as wide as the pixels of the result where the image shrinks.
///
/// # Errors
/// Sizes of 0.
pub fn resize_bilinear_antialias(x: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    resize(x, (height, width), |old, new| Windows::triangle(old, new, true))
}

/// Every pixel four times: `[n, height, width, channels]` to `[n, 2 * height, 2 * width, channels]`.
///
/// # Errors
/// Sizes of 0.
pub fn upsample_nearest2(x: &Tensor) -> Result<Tensor> {
    let (_, height, width, _) = x.dims4()?;
    resize(x, (2 * height, 2 * width), |old, _| Windows::twice(old))
}

fn resize(x: &Tensor, new: (usize, usize), windows: impl Fn(usize, usize) -> Windows) -> Result<Tensor> {
    let (_, height, width, channels) = x.dims4()?;
    if [height, width, channels, new.0, new.1].contains(&0) {
        bail!("resize of {:?} to {}x{}: an image without pixels", x.dims(), new.0, new.1);
    }
    if (height, width) == new {
        return Ok(x.clone());
    }
    let resize = Resize { rows: windows(height, new.0), columns: windows(width, new.1) };
    if fused(x.device()) { x.contiguous()?.apply_op1(resize) } else { plain(x, &resize) }
}

fn plain(x: &Tensor, resize: &Resize) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let (new_height, new_width) = (resize.rows.new_len(), resize.columns.new_len());
    let matrix =
        |windows: &Windows, old: usize| Tensor::from_vec(windows.matrix(), (1, windows.new_len(), old), x.device());
    let rows = matrix(&resize.rows, height)?.broadcast_matmul(&x.reshape((batch, height, width * channels))?)?;
    let columns = rows.reshape((batch * new_height, width, channels))?;
    let columns = matrix(&resize.columns, width)?.broadcast_matmul(&columns)?;
    columns.reshape((batch, new_height, new_width, channels))
}

struct Resize {
    rows: Windows,
    columns: Windows,
}

impl Resize {
    /// `[n, height, width, channels]` to `[n, new height, new width, channels]`.
    fn run(&self, x: &[f32], channels: usize) -> Vec<f32> {
        let (height, width) = (self.rows.old_len(), self.columns.old_len());
        let image = height * width * channels;
        let (new_height, new_row) = (self.rows.new_len(), self.columns.new_len() * channels);
        let len = x.len() / image * new_height * new_row;
        let row = || vec![0.0; width * channels];
        in_chunks(len, new_row, row, |row, index, out| {
            let image = &x[index / new_height * image..][..image];
            simd::dispatch_kernel(Row { resize: self, channels, image, y: index % new_height, row, out });
        })
    }
}

impl CustomOp1 for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("resize");
        let (batch, _, _, channels) = layout.shape().dims4()?;
        let out = self.run(slice(x, layout)?, channels);
        Ok((CpuStorage::F32(out), (batch, self.rows.new_len(), self.columns.new_len(), channels).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _span = profile::span("resize, backward");
        let back = Resize { rows: self.rows.reversed(), columns: self.columns.reversed() };
        let grad = grad.contiguous()?;
        let dx = back.run(&Values::of(&grad)?, x.dim(3)?);
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// Row `y` of one resized image.
struct Row<'a> {
    resize: &'a Resize,
    channels: usize,
    image: &'a [f32],
    y: usize,
    /// A row of the old width.
    row: &'a mut [f32],
    out: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { resize, channels, image, y, row, out } = self;
        let old_row = row.len();
        let (rows, weights) = (&image[resize.rows.start(y) * old_row..], resize.rows.weights(y));
        let row = match weights {
            [weight] if *weight == 1.0 => &rows[..old_row],
            _ => {
                mix(row, rows, weights);
                &*row
            }
        };
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            mix(out, &row[resize.columns.start(x) * channels..], resize.columns.weights(x));
        }
    }
}

/// The weighted sum of the vectors that lie one after the other in `vectors`.
#[inline(always)]
fn mix(out: &mut [f32], vectors: &[f32], weights: &[f32]) {
    let len = out.len();
    match weights {
        [] => out.fill(0.0),
        [a] if *a == 1.0 => out.copy_from_slice(&vectors[..len]),
        [a] => out.iter_mut().zip(vectors).for_each(|(out, x)| *out = a * x),
        [a, b, rest @ ..] => {
            let pairs = vectors[..len].iter().zip(&vectors[len..2 * len]);
            out.iter_mut().zip(pairs).for_each(|(out, (x, y))| *out = a * x + b * y);
            add(out, &vectors[2 * len..], rest);
        }
    }
}

/// Adds the weighted sum.
#[inline(always)]
fn add(out: &mut [f32], vectors: &[f32], weights: &[f32]) {
    let len = out.len();
    let mut vectors = vectors.chunks_exact(len);
    for weights in weights.chunks(2) {
        match (weights, vectors.next()) {
            ([a, b], Some(x)) => {
                let pairs = x.iter().zip(vectors.next().unwrap_or_default());
                out.iter_mut().zip(pairs).for_each(|(out, (x, y))| *out += a * x + b * y);
            }
            ([a], Some(x)) => out.iter_mut().zip(x).for_each(|(out, x)| *out += a * x),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;
    use candle_core::{DType, Device};

    type Sized = fn(&Tensor, (usize, usize)) -> Result<Tensor>;

    /// A row of pixels with the values 0, 1, .. resized.
    fn row(old: usize, new: usize, resize: Sized) -> Vec<f32> {
        let x = Tensor::arange(0u32, old as u32, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
        let y = resize(&x.reshape((1, 1, old, 1)).unwrap(), (1, new)).unwrap();
        y.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-4), "{found:?}, expected {expected:?}");
    }

    #[test]
    fn centres_are_half_a_pixel_in_and_edges_repeat() {
        close(&row(2, 4, resize_bilinear), &[0.0, 0.25, 0.75, 1.0]);
        close(&row(4, 2, resize_bilinear), &[0.5, 2.5]);
        close(&row(8, 2, resize_bilinear), &[1.5, 5.5]);
    }

    #[test]
    fn antialiasing_takes_every_pixel_that_the_triangle_covers() {
        let expected = [0.1667, 1.2778, 2.3889, 3.5, 4.6111, 5.7222, 6.8333];
        close(&row(8, 7, resize_bilinear_antialias), &expected);
        // Twice as wide: distances 1/2 and 3/2 of a triangle that ends at 2.
        close(&row(4, 2, resize_bilinear_antialias), &[(0.75 + 2.0 * 0.25) / 1.75, 3.0 - 1.25 / 1.75]);
        close(&row(2, 4, resize_bilinear_antialias), &row(2, 4, resize_bilinear));
    }

    #[test]
    fn nearest_repeats_pixels() {
        let x = Tensor::new(&[[[[1.0f32], [2.0]]]], &Device::Cpu).unwrap();
        let y = upsample_nearest2(&x).unwrap();
        assert_eq!(y.dims(), [1, 2, 4, 1]);
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn agrees_with_plain_operations() {
        let x = [random("x", &[2, 5, 4, 3])];
        for new in [(10, 8), (3, 9), (2, 2), (5, 7), (1, 1)] {
            for antialias in [false, true] {
                let twin = Resize {
                    rows: Windows::triangle(5, new.0, antialias),
                    columns: Windows::triangle(4, new.1, antialias),
                };
                let resize = if antialias { resize_bilinear_antialias } else { resize_bilinear };
                agrees(&x, |t| resize(&t[0], new), |t| plain(&t[0], &twin));
            }
        }
        let repeat = |t: &Tensor| {
            let t = t.reshape((2, 5, 1, 4, 1, 3))?.broadcast_as((2, 5, 2, 4, 2, 3))?;
            t.reshape((2, 10, 8, 3))
        };
        agrees(&x, |t| upsample_nearest2(&t[0]), |t| repeat(&t[0]));
    }

    #[test]
    fn images_without_pixels_are_refused() {
        assert!(resize_bilinear(&random("x", &[1, 2, 2, 1]), (0, 2)).is_err());
        assert!(upsample_nearest2(&random("x", &[1, 0, 2, 1])).is_err());
        let same = random("x", &[1, 2, 3, 1]);
        assert_eq!(resize_bilinear(&same, (2, 3)).unwrap().dims(), [1, 2, 3, 1]);
    }
}
