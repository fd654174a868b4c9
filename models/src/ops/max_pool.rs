//! Maxima of square windows, with a gradient (candle's own is wrong where windows overlap).

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::simd::{self, Kernel};
use super::storage::{Values, slice};
use crate::profile;

/// How a window moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Rows and columns of a window.
    pub side: usize,
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Pixels by which the first and the last windows may lie outside; less than `side`.
    pub padding: usize,
}

/// The largest number of every window; of equal ones the first gets the gradient.
///
/// Shapes: x `[n, height, width, channels]`, result `[n, height', width', channels]` with height' = (height + 2 padding - side)
/// / stride + 1.
///
/// # Errors
/// Images smaller than a window, windows that may lie outside altogether, other devices than the CPU.
pub fn max_pool(x: &Tensor, pool: MaxPool) -> Result<Tensor> {
    let (_, height, width, channels) = x.dims4()?;
    let MaxPool { side, stride, padding } = pool;
    let smallest = height.min(width) + 2 * padding;
    if [height, width, channels, side, stride].contains(&0) || smallest < side || padding >= side {
        bail!("max pool of {height}x{width}x{channels}: {pool:?}");
    }
    x.contiguous()?.apply_op1(pool)
}

/// Sizes of one image and of its result.
#[derive(Clone, Copy)]
struct Sizes {
    pool: MaxPool,
    height: usize,
    width: usize,
    channels: usize,
    out_height: usize,
    out_width: usize,
}

impl Sizes {
    fn new(pool: MaxPool, height: usize, width: usize, channels: usize) -> Self {
        let windows = |length: usize| (length + 2 * pool.padding - pool.side) / pool.stride + 1;
        Self { pool, height, width, channels, out_height: windows(height), out_width: windows(width) }
    }

    fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn out(&self) -> usize {
        self.out_height * self.out_width * self.channels
    }

    /// Calls `f(window, pixel)` with the starts of each window's result and of each of its pixels, in order.
    #[inline(always)]
    fn each(&self, mut f: impl FnMut(usize, usize)) {
        let MaxPool { side, stride, padding } = self.pool;
        for window in 0..self.out_height * self.out_width {
            let (top, left) = (window / self.out_width * stride, window % self.out_width * stride);
            for row in top.max(padding)..(top + side).min(self.height + padding) {
                for column in left.max(padding)..(left + side).min(self.width + padding) {
                    let pixel = (row - padding) * self.width + column - padding;
                    f(window * self.channels, pixel * self.channels);
                }
            }
        }
    }
}

struct Forward<'a> {
    sizes: Sizes,
    image: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { sizes, image, out } = self;
        let c = sizes.channels;
        out.fill(f32::NEG_INFINITY);
        sizes.each(|window, pixel| {
            let pair = out[window..][..c].iter_mut().zip(&image[pixel..][..c]);
            pair.for_each(|(largest, value)| *largest = if *value > *largest { *value } else { *largest });
        });
    }
}

struct Backward<'a> {
    sizes: Sizes,
    image: &'a [f32],
    out: &'a [f32],
    /// Of the result; a number becomes 0 once it was given to a pixel.
    grad: Vec<f32>,
    image_grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let c = self.sizes.channels;
        self.sizes.each(|window, pixel| {
            let (values, largest) = (&self.image[pixel..][..c], &self.out[window..][..c]);
            let (from, to) = (&mut self.grad[window..][..c], &mut self.image_grad[pixel..][..c]);
            for i in 0..c {
                let share = if values[i] == largest[i] { from[i] } else { 0.0 };
                to[i] += share;
                from[i] -= share;
            }
        });
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("max pool").numbers(layout.shape().elem_count());
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let sizes = Sizes::new(*self, height, width, channels);
        let x = slice(x, layout)?;
        let mut y = vec![0.0; batch * sizes.out()];
        y.par_chunks_mut(sizes.out()).zip(x.par_chunks(sizes.image())).for_each(|(out, image)| {
            simd::dispatch_kernel(Forward { sizes, image, out });
        });
        Ok((CpuStorage::F32(y), (batch, sizes.out_height, sizes.out_width, channels).into()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _span = profile::span("max pool, backward").numbers(2 * grad.elem_count());
        let (_, height, width, channels) = x.dims4()?;
        let sizes = Sizes::new(*self, height, width, channels);
        let grad = grad.contiguous()?;
        let (images, outs, grads) = (Values::of(x)?, Values::of(y)?, Values::of(&grad)?);
        let mut image_grads = vec![0.0; images.len()];
        let results = outs.par_chunks(sizes.out()).zip(grads.par_chunks(sizes.out()));
        let images = image_grads.par_chunks_mut(sizes.image()).zip(images.par_chunks(sizes.image()));
        images.zip(results).for_each(|((image_grad, image), (out, grad))| {
            simd::dispatch_kernel(Backward { sizes, image, out, grad: grad.to_vec(), image_grad });
        });
        Ok(Some(Tensor::from_vec(image_grads, x.shape(), x.device())?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::testing::{agrees, random};
    use super::*;

    /// Without windows that overlap, or lie outside, a maximum over dimensions of their own.
    fn plain(x: &Tensor, side: usize) -> Result<Tensor> {
        let (n, h, w, c) = x.dims4()?;
        x.reshape((n, h / side, side, w / side, side, c))?.max(4)?.max(2)
    }

    /// The largest of all shifted images, in which padding is a very low number.
    fn shifted(x: &Tensor, pool: MaxPool) -> Result<Tensor> {
        let (_, h, w, _) = x.dims4()?;
        let low = -1000.0;
        let p = pool.padding;
        let padded = ((x - low)?.pad_with_zeros(1, p, p)?.pad_with_zeros(2, p, p)? + low)?;
        let at = |i: usize| padded.narrow(1, i / pool.side, h + 2 * p + 1 - pool.side);
        let windows = (0..pool.side * pool.side).map(|i| at(i)?.narrow(2, i % pool.side, w + 2 * p + 1 - pool.side));
        Tensor::stack(&windows.collect::<Result<Vec<_>>>()?, 0)?.max(0)
    }

    #[test]
    fn agrees_with_plain_operations() {
        // Far apart, so that no finite difference changes which number is the largest.
        let x = [Var::from_tensor(&(random("x", &[2, 6, 9, 5]).as_tensor() * 100.0).unwrap()).unwrap()];
        let pool = MaxPool { side: 3, stride: 3, padding: 0 };
        agrees(&x, |t| max_pool(&t[0], pool), |t| plain(&t[0], 3));
        for padding in [0, 1, 2] {
            let pool = MaxPool { side: 3, stride: 1, padding };
            agrees(&x, |t| max_pool(&t[0], pool), |t| shifted(&t[0], pool));
        }
    }

    #[test]
    fn windows_of_a_stride_are_every_second_one() {
        let x = random("x", &[1, 7, 8, 3]);
        let all = max_pool(&x, MaxPool { side: 3, stride: 1, padding: 1 }).unwrap();
        let some = max_pool(&x, MaxPool { side: 3, stride: 2, padding: 1 }).unwrap();
        let index = |count: u32| Tensor::arange_step(0, count, 2, x.device()).unwrap();
        let expected = all.index_select(&index(7), 1).unwrap().index_select(&index(8), 2).unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((some.dims(), flat(&some)), (&[1, 4, 4, 3][..], flat(&expected)));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = random("x", &[1, 2, 8, 3]);
        for (side, stride, padding) in [(3, 1, 0), (3, 0, 1), (3, 1, 3), (0, 1, 0)] {
            assert!(max_pool(&x, MaxPool { side, stride, padding }).is_err());
        }
    }
}
