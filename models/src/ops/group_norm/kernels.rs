//! Group normalisation of one image, forward and backward.

use super::super::simd::Kernel;
use super::GroupNorm;

/// The settings with scale and bias.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Affine<'a> {
    pub(in crate::ops) settings: GroupNorm,
    pub(in crate::ops) scale: &'a [f32],
    pub(in crate::ops) bias: &'a [f32],
}

/// Numbers that are summed side by side at least: pixels of few channels are taken together, since sums over fewer of them
/// are rounded less.
const WIDE: usize = 256;

/// Pixels that are summed side by side.
#[inline(always)]
fn at_once(pixels: usize, channels: usize) -> usize {
    let mut count = 1;
    while count * channels < WIDE && pixels.is_multiple_of(2 * count) && pixels > 0 {
        count *= 2;
    }
    count
}

/// The sums over the pixels that were summed side by side.
#[inline(always)]
fn fold(wide: &[f32], channels: &mut [f32]) {
    channels.fill(0.0);
    for pixel in wide.chunks_exact(channels.len()) {
        channels.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
    }
}

/// A loop over the pixels for so many neighbouring channels that what belongs to them stays in registers.
trait Channels {
    /// For channels `first..first + N`. Implementations must be `#[inline(always)]`.
    fn each<const N: usize>(&mut self, first: usize);
}

/// Runs a loop for all channels.
#[inline(always)]
fn for_all(channels: usize, block: &mut impl Channels) {
    let mut first = 0;
    while first + 64 <= channels {
        block.each::<64>(first);
        first += 64;
    }
    while first + 32 <= channels {
        block.each::<32>(first);
        first += 32;
    }
    while first + 16 <= channels {
        block.each::<16>(first);
        first += 16;
    }
    while first < channels {
        block.each::<1>(first);
        first += 1;
    }
}

/// The numbers of some channels.
#[inline(always)]
fn of<const N: usize>(channels: &[f32], first: usize) -> [f32; N] {
    let mut some = [0.0; N];
    some.copy_from_slice(&channels[first..first + N]);
    some
}

/// Replaces each channel's number by the mean over its group, where each of `groups` equal groups has `count` numbers.
#[inline(always)]
fn group_means(channels: &mut [f32], groups: usize, count: usize) {
    let inverse = 1.0 / count as f32;
    for group in channels.chunks_exact_mut(channels.len() / groups) {
        let mean = group.iter().sum::<f32>() * inverse;
        group.fill(mean);
    }
}

impl Affine<'_> {
    /// y = x * factor + offset for every channel, with the statistics of an image.
    #[inline(always)]
    fn coefficients(&self, statistics: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (mean, inverse) = statistics.split_at(self.scale.len());
        let factor: Vec<f32> = self.scale.iter().zip(inverse).map(|(scale, inverse)| scale * inverse).collect();
        let offset = self.bias.iter().zip(mean).zip(&factor).map(|((bias, mean), factor)| bias - mean * factor);
        let offset = offset.collect();
        (factor, offset)
    }

    /// What ReLU leaves at least.
    #[inline(always)]
    fn floor(&self) -> f32 {
        if self.settings.relu { 0.0 } else { f32::NEG_INFINITY }
    }
}

/// The statistics of an image: for each channel the mean of its group, then for each channel 1 / deviation.
pub(in crate::ops) struct Statistics<'a> {
    pub(in crate::ops) settings: GroupNorm,
    /// `[pixels, channels]`.
    pub(in crate::ops) x: &'a [f32],
    /// `[2, channels]`, overwritten.
    pub(in crate::ops) statistics: &'a mut [f32],
}

impl Kernel for Statistics<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { settings: GroupNorm { groups, eps, .. }, x, statistics } = self;
        let channels = statistics.len() / 2;
        let count = x.len() / groups;
        let (mean, inverse) = statistics.split_at_mut(channels);
        let at_once = at_once(x.len() / channels, channels);
        let wide = at_once * channels;
        let mut sums = vec![0.0; wide];
        for_all(wide, &mut Sums { x, channels: wide, sums: &mut sums });
        fold(&sums, mean);
        group_means(mean, groups, count);
        // Two passes: the mean of squares minus the square of the mean would cancel.
        for_all(wide, &mut Squares { x, channels: wide, mean: &mean.repeat(at_once), sums: &mut sums });
        fold(&sums, inverse);
        group_means(inverse, groups, count);
        inverse.iter_mut().for_each(|variance| *variance = 1.0 / (*variance + eps).sqrt());
    }
}

/// Sums over the pixels.
struct Sums<'a> {
    x: &'a [f32],
    channels: usize,
    sums: &'a mut [f32],
}

impl Channels for Sums<'_> {
    #[inline(always)]
    fn each<const N: usize>(&mut self, first: usize) {
        let mut sums = [0.0f32; N];
        for x in self.x.chunks_exact(self.channels) {
            let Some(x) = x[first..].first_chunk::<N>() else { continue };
            for i in 0..N {
                sums[i] += x[i];
            }
        }
        self.sums[first..first + N].copy_from_slice(&sums);
    }
}

/// Sums over the pixels of the squared distance from the mean.
struct Squares<'a> {
    x: &'a [f32],
    channels: usize,
    mean: &'a [f32],
    sums: &'a mut [f32],
}

impl Channels for Squares<'_> {
    #[inline(always)]
    fn each<const N: usize>(&mut self, first: usize) {
        let (mut sums, mean) = ([0.0f32; N], of::<N>(self.mean, first));
        for x in self.x.chunks_exact(self.channels) {
            let Some(x) = x[first..].first_chunk::<N>() else { continue };
            for i in 0..N {
                sums[i] += (x[i] - mean[i]) * (x[i] - mean[i]);
            }
        }
        self.sums[first..first + N].copy_from_slice(&sums);
    }
}

/// Normalises an image with its statistics.
pub(in crate::ops) struct Apply<'a> {
    pub(in crate::ops) affine: Affine<'a>,
    pub(in crate::ops) x: &'a [f32],
    pub(in crate::ops) statistics: &'a [f32],
    pub(in crate::ops) out: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { affine, x, statistics, out } = self;
        let (factor, offset) = affine.coefficients(statistics);
        for_all(factor.len(), &mut Scale { x, factor: &factor, offset: &offset, floor: affine.floor(), out });
    }
}

/// x * factor + offset, but at least the floor.
struct Scale<'a> {
    x: &'a [f32],
    factor: &'a [f32],
    offset: &'a [f32],
    floor: f32,
    out: &'a mut [f32],
}

impl Channels for Scale<'_> {
    #[inline(always)]
    fn each<const N: usize>(&mut self, first: usize) {
        let (factor, offset) = (of::<N>(self.factor, first), of::<N>(self.offset, first));
        let (channels, floor) = (self.factor.len(), self.floor);
        for (x, out) in self.x.chunks_exact(channels).zip(self.out.chunks_exact_mut(channels)) {
            let (Some(x), Some(out)) = (x[first..].first_chunk::<N>(), out[first..].first_chunk_mut::<N>()) else {
                continue;
            };
            for i in 0..N {
                let y = x[i] * factor[i] + offset[i];
                // In this order NaN stays NaN.
                out[i] = if y < floor { floor } else { y };
            }
        }
    }
}

/// The gradients of one image.
pub(in crate::ops) struct Backward<'a> {
    pub(in crate::ops) affine: Affine<'a>,
    pub(in crate::ops) x: &'a [f32],
    pub(in crate::ops) statistics: &'a [f32],
    /// The gradient of the result, which becomes that of x.
    pub(in crate::ops) gradient: &'a mut [f32],
    /// Gradients of scale and bias, added to.
    pub(in crate::ops) affine_grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { affine, x, statistics, gradient, affine_grad } = self;
        let GroupNorm { groups, .. } = affine.settings;
        let channels = affine.scale.len();
        let count = x.len() / groups;
        let (mean, inverse) = statistics.split_at(channels);
        let (factor, offset) = affine.coefficients(statistics);
        let mut own = vec![0.0; 2 * channels];
        let (for_scale, for_bias) = own.split_at_mut(channels);
        let at_once = at_once(x.len() / channels, channels);
        let wide = at_once * channels;
        let (mut sums, mut products) = (vec![0.0; wide], vec![0.0; wide]);
        let mut through = Through {
            x,
            mean: &mean.repeat(at_once),
            factor: &factor.repeat(at_once),
            offset: &offset.repeat(at_once),
            floor: affine.floor(),
            gradient,
            sums: &mut sums,
            products: &mut products,
        };
        for_all(wide, &mut through);
        fold(&products, for_scale);
        fold(&sums, for_bias);
        for_scale.iter_mut().zip(inverse).for_each(|(product, inverse)| *product *= inverse);
        // dx = factor * dy - inverse * (mean of scale * dy + normalised x * mean of scale * dy * normalised x)
        let (mut constant, mut slope) = (for_bias.to_vec(), for_scale.to_vec());
        for means in [&mut constant, &mut slope] {
            means.iter_mut().zip(affine.scale).for_each(|(sum, scale)| *sum *= scale);
            group_means(means, groups, count);
            means.iter_mut().zip(inverse).for_each(|(mean, inverse)| *mean *= inverse);
        }
        for i in 0..channels {
            slope[i] *= inverse[i];
            constant[i] -= mean[i] * slope[i];
        }
        for_all(channels, &mut Centre { x, factor: &factor, constant: &constant, slope: &slope, gradient });
        affine_grad.iter_mut().zip(&own).for_each(|(sum, value)| *sum += value);
    }
}

/// The gradient behind the ReLU, and the sums over the pixels of it and of it times x - mean.
struct Through<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    factor: &'a [f32],
    offset: &'a [f32],
    floor: f32,
    gradient: &'a mut [f32],
    sums: &'a mut [f32],
    products: &'a mut [f32],
}

impl Channels for Through<'_> {
    #[inline(always)]
    fn each<const N: usize>(&mut self, first: usize) {
        let (factor, offset) = (of::<N>(self.factor, first), of::<N>(self.offset, first));
        let (mean, channels, floor) = (of::<N>(self.mean, first), self.factor.len(), self.floor);
        let (mut sums, mut products) = ([0.0f32; N], [0.0f32; N]);
        for (x, dy) in self.x.chunks_exact(channels).zip(self.gradient.chunks_exact_mut(channels)) {
            let (Some(x), Some(dy)) = (x[first..].first_chunk::<N>(), dy[first..].first_chunk_mut::<N>()) else {
                continue;
            };
            for i in 0..N {
                let through = if x[i] * factor[i] + offset[i] > floor { dy[i] } else { 0.0 };
                dy[i] = through;
                sums[i] += through;
                products[i] += through * (x[i] - mean[i]);
            }
        }
        self.sums[first..first + N].copy_from_slice(&sums);
        self.products[first..first + N].copy_from_slice(&products);
    }
}

/// factor * gradient - constant - x * slope.
struct Centre<'a> {
    x: &'a [f32],
    factor: &'a [f32],
    constant: &'a [f32],
    slope: &'a [f32],
    gradient: &'a mut [f32],
}

impl Channels for Centre<'_> {
    #[inline(always)]
    fn each<const N: usize>(&mut self, first: usize) {
        let (factor, constant) = (of::<N>(self.factor, first), of::<N>(self.constant, first));
        let (slope, channels) = (of::<N>(self.slope, first), self.factor.len());
        for (x, dx) in self.x.chunks_exact(channels).zip(self.gradient.chunks_exact_mut(channels)) {
            let (Some(x), Some(dx)) = (x[first..].first_chunk::<N>(), dx[first..].first_chunk_mut::<N>()) else {
                continue;
            };
            for i in 0..N {
                dx[i] = factor[i] * dx[i] - constant[i] - x[i] * slope[i];
            }
        }
    }
}
