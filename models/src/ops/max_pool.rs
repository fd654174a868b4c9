//! Maxima of square windows, with a gradient (candle's own is wrong where windows overlap).

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::chunks::in_chunks;
use super::simd::{self, Kernel};
use super::storage::{Values, slice};
use crate::profile;

/// Channels that are worked together.
const WIDE: usize = 64;
/// As [`WIDE`], of what is left.
const NARROW: usize = 16;
/// Rows and columns of the largest window whose pixels a byte counts.
const LARGEST: usize = 16;

/// How a window moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Rows and columns of a window, 16 at most.
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
/// Images smaller than a window, windows of more than 16 rows, windows that may lie outside altogether, other devices than the
/// CPU.
pub fn max_pool(x: &Tensor, pool: MaxPool) -> Result<Tensor> {
    let (_, height, width, channels) = x.dims4()?;
    let MaxPool { side, stride, padding } = pool;
    let smallest = height.min(width) + 2 * padding;
    if [height, width, channels, side, stride].contains(&0) || smallest < side || padding >= side || side > LARGEST {
        bail!("max pool of {height}x{width}x{channels}: {pool:?}");
    }
    let places = x.track_op().then(Mutex::default);
    x.contiguous()?.apply_op1(Fused { pool, places })
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

    fn row(&self) -> usize {
        self.width * self.channels
    }

    fn image(&self) -> usize {
        self.height * self.row()
    }

    fn out_row(&self) -> usize {
        self.out_width * self.channels
    }

    fn out(&self) -> usize {
        self.out_height * self.out_row()
    }

    /// The pixels of a row or column of `length` that window `index` covers.
    #[inline(always)]
    fn pixels(&self, index: usize, length: usize) -> Range<usize> {
        let MaxPool { side, stride, padding } = self.pool;
        (index * stride).saturating_sub(padding)..(index * stride + side - padding).min(length)
    }

    /// The windows of a row or column of `count` that cover pixel `index`.
    #[inline(always)]
    fn windows(&self, index: usize, count: usize) -> Range<usize> {
        let MaxPool { side, stride, padding } = self.pool;
        let at = index + padding;
        let first = (at + 1).saturating_sub(side).div_ceil(stride);
        first..(at / stride + 1).min(count).max(first)
    }

    /// Which of its window's pixels a pixel is.
    #[inline(always)]
    fn place(&self, window: (usize, usize), pixel: (usize, usize)) -> usize {
        let MaxPool { side, stride, padding } = self.pool;
        (pixel.0 + padding - window.0 * stride) * side + pixel.1 + padding - window.1 * stride
    }
}

/// A row of the result of one image, and of the places of the maxima in their windows if they are kept.
struct Forward<'a> {
    sizes: Sizes,
    image: &'a [f32],
    y: usize,
    out: &'a mut [f32],
    places: Option<&'a mut [u8]>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        for x in 0..self.sizes.out_width {
            let mut channel = 0;
            while channel + WIDE <= self.sizes.channels {
                self.window::<WIDE>(x, channel);
                channel += WIDE;
            }
            while channel + NARROW <= self.sizes.channels {
                self.window::<NARROW>(x, channel);
                channel += NARROW;
            }
            while channel < self.sizes.channels {
                self.window::<1>(x, channel);
                channel += 1;
            }
        }
    }
}

impl Forward<'_> {
    /// `N` channels of one window.
    #[inline(always)]
    fn window<const N: usize>(&mut self, x: usize, channel: usize) {
        let (sizes, c) = (self.sizes, self.sizes.channels);
        let (rows, columns) = (sizes.pixels(self.y, sizes.height), sizes.pixels(x, sizes.width));
        let mut largest = [f32::NEG_INFINITY; N];
        let mut places = [sizes.place((self.y, x), (rows.start, columns.start)) as i32; N];
        for row in rows {
            for column in columns.clone() {
                let place = sizes.place((self.y, x), (row, column)) as i32;
                let Some(values) = self.image[(row * sizes.width + column) * c + channel..].first_chunk::<N>() else {
                    continue;
                };
                for i in 0..N {
                    let above = values[i] > largest[i];
                    largest[i] = if above { values[i] } else { largest[i] };
                    places[i] = if above { place } else { places[i] };
                }
            }
        }
        self.out[x * c + channel..][..N].copy_from_slice(&largest);
        if let Some(to) = &mut self.places {
            let to = &mut to[x * c + channel..][..N];
            for i in 0..N {
                to[i] = places[i] as u8;
            }
        }
    }
}

/// A row of the gradient of one image.
struct Backward<'a> {
    sizes: Sizes,
    places: &'a [u8],
    /// Of the result.
    grad: &'a [f32],
    y: usize,
    /// Overwritten.
    out: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        for x in 0..self.sizes.width {
            let mut channel = 0;
            while channel + WIDE <= self.sizes.channels {
                self.pixel::<WIDE>(x, channel);
                channel += WIDE;
            }
            while channel + NARROW <= self.sizes.channels {
                self.pixel::<NARROW>(x, channel);
                channel += NARROW;
            }
            while channel < self.sizes.channels {
                self.pixel::<1>(x, channel);
                channel += 1;
            }
        }
    }
}

impl Backward<'_> {
    /// `N` channels of one pixel.
    #[inline(always)]
    fn pixel<const N: usize>(&mut self, x: usize, channel: usize) {
        let (sizes, c) = (self.sizes, self.sizes.channels);
        let mut sums = [0.0f32; N];
        for row in sizes.windows(self.y, sizes.out_height) {
            for column in sizes.windows(x, sizes.out_width) {
                let place = sizes.place((row, column), (self.y, x)) as i32;
                let start = (row * sizes.out_width + column) * c + channel;
                let (places, grad) = (self.places[start..].first_chunk::<N>(), self.grad[start..].first_chunk::<N>());
                let (Some(places), Some(grad)) = (places, grad) else { continue };
                for i in 0..N {
                    sums[i] += if i32::from(places[i]) == place { grad[i] } else { 0.0 };
                }
            }
        }
        self.out[x * c + channel..][..N].copy_from_slice(&sums);
    }
}

/// The operation, and for each number of the result the place of the maximum in its window, if there will be a gradient.
struct Fused {
    pool: MaxPool,
    places: Option<Mutex<Vec<u8>>>,
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("max pool").numbers(layout.shape().elem_count());
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let sizes = Sizes::new(self.pool, height, width, channels);
        let x = slice(x, layout)?;
        let forward = |index: usize, out: &mut [f32], places: Option<&mut [u8]>| {
            let image = &x[index / sizes.out_height * sizes.image()..][..sizes.image()];
            simd::dispatch_kernel(Forward { sizes, image, y: index % sizes.out_height, out, places });
        };
        let len = batch * sizes.out();
        let y = match &self.places {
            None => in_chunks(len, sizes.out_row(), || (), |(), index, out| forward(index, out, None)),
            Some(kept) => {
                let (mut y, mut all) = (vec![0.0; len], vec![0; len]);
                let rows = y.par_chunks_mut(sizes.out_row()).zip(all.par_chunks_mut(sizes.out_row())).enumerate();
                rows.for_each(|(index, (out, places))| forward(index, out, Some(places)));
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = all;
                y
            }
        };
        Ok((CpuStorage::F32(y), (batch, sizes.out_height, sizes.out_width, channels).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _span = profile::span("max pool, backward").numbers(2 * grad.elem_count());
        let Some(kept) = &self.places else { return Ok(None) };
        let (_, height, width, channels) = x.dims4()?;
        let sizes = Sizes::new(self.pool, height, width, channels);
        let grad = grad.contiguous()?;
        let (kept, grad) = (kept.lock().unwrap_or_else(PoisonError::into_inner), Values::of(&grad)?);
        let (all_places, all_grads) = (&kept[..], &grad[..]);
        let image_grads = in_chunks(
            x.elem_count(),
            sizes.row(),
            || (),
            |(), index, out| {
                let image = index / sizes.height * sizes.out()..(index / sizes.height + 1) * sizes.out();
                let (places, grad) = (&all_places[image.clone()], &all_grads[image]);
                simd::dispatch_kernel(Backward { sizes, places, grad, y: index % sizes.height, out });
            },
        );
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
        let wide = [Var::from_tensor(&(random("x", &[1, 6, 6, 83]).as_tensor() * 100.0).unwrap()).unwrap()];
        agrees(&wide, |t| max_pool(&t[0], pool), |t| plain(&t[0], 3));
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
        for (side, stride, padding) in [(3, 1, 0), (3, 0, 1), (3, 1, 3), (0, 1, 0), (17, 1, 16)] {
            assert!(max_pool(&x, MaxPool { side, stride, padding }).is_err());
        }
    }
}
