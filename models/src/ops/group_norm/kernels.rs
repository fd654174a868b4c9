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

/// Channels that a loop takes at once at least: a few channels are too short a row for vector instructions to pay.
const WIDE: usize = 256;

/// Pixels that a loop takes at once.
#[inline(always)]
fn at_once(pixels: usize, channels: usize) -> usize {
    let mut count = 1;
    while count * channels < WIDE && pixels.is_multiple_of(2 * count) && pixels > 0 {
        count *= 2;
    }
    count
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

/// The sums over the pixels that a loop took at once.
#[inline(always)]
fn fold(wide: &[f32], channels: &mut [f32]) {
    for pixel in wide.chunks_exact(channels.len()) {
        channels.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
    }
}

impl Affine<'_> {
    /// y = x * factor + offset for every channel, with the statistics of an image, for `count` pixels at once.
    #[inline(always)]
    fn coefficients(&self, statistics: &[f32], count: usize) -> (Vec<f32>, Vec<f32>) {
        let (mean, inverse) = statistics.split_at(self.scale.len());
        let factor: Vec<f32> = self.scale.iter().zip(inverse).map(|(scale, inverse)| scale * inverse).collect();
        let offset = self.bias.iter().zip(mean).zip(&factor).map(|((bias, mean), factor)| bias - mean * factor);
        let offset = offset.collect::<Vec<f32>>().repeat(count);
        (factor.repeat(count), offset)
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
    /// `[2, channels]`, zero before.
    pub(in crate::ops) statistics: &'a mut [f32],
}

impl Kernel for Statistics<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { settings: GroupNorm { groups, eps, .. }, x, statistics } = self;
        let channels = statistics.len() / 2;
        let (pixels, count) = (x.len() / channels, x.len() / groups);
        let at_once = at_once(pixels, channels);
        let (mean, inverse) = statistics.split_at_mut(channels);
        let mut sums = vec![0.0f32; at_once * channels];
        for x in x.chunks_exact(sums.len()) {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        }
        fold(&sums, mean);
        group_means(mean, groups, count);
        // Two passes: the mean of squares minus the square of the mean would cancel.
        let means = mean.repeat(at_once);
        sums.fill(0.0);
        for x in x.chunks_exact(sums.len()) {
            sums.iter_mut().zip(x).zip(&means).for_each(|((sum, x), mean)| *sum += (x - mean) * (x - mean));
        }
        fold(&sums, inverse);
        group_means(inverse, groups, count);
        inverse.iter_mut().for_each(|variance| *variance = 1.0 / (*variance + eps).sqrt());
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
        let channels = affine.scale.len();
        let (factor, offset) = affine.coefficients(statistics, at_once(x.len() / channels, channels));
        let floor = affine.floor();
        for (out, x) in out.chunks_exact_mut(factor.len()).zip(x.chunks_exact(factor.len())) {
            for (((out, x), factor), offset) in out.iter_mut().zip(x).zip(&factor).zip(&offset) {
                let y = x * factor + offset;
                // In this order NaN stays NaN.
                *out = if y < floor { floor } else { y };
            }
        }
    }
}

/// The gradients of one image.
pub(in crate::ops) struct Backward<'a> {
    pub(in crate::ops) affine: Affine<'a>,
    pub(in crate::ops) x: &'a [f32],
    pub(in crate::ops) dy: &'a [f32],
    pub(in crate::ops) statistics: &'a [f32],
    /// Overwritten.
    pub(in crate::ops) dx: &'a mut [f32],
    /// Gradients of scale and bias, added to.
    pub(in crate::ops) affine_grad: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { affine, x, dy, statistics, dx, affine_grad } = self;
        let GroupNorm { groups, .. } = affine.settings;
        let channels = affine.scale.len();
        let count = x.len() / groups;
        let at_once = at_once(x.len() / channels, channels);
        let (mean, inverse) = statistics.split_at(channels);
        let (factor, offset) = affine.coefficients(statistics, at_once);
        let (means, floor, wide) = (mean.repeat(at_once), affine.floor(), factor.len());
        // Sums over the pixels of dy behind the ReLU and of it times x - mean; dx takes dy behind the ReLU.
        let (mut sums, mut products) = (vec![0.0f32; wide], vec![0.0f32; wide]);
        for ((x, dy), dx) in x.chunks_exact(wide).zip(dy.chunks_exact(wide)).zip(dx.chunks_exact_mut(wide)) {
            for i in 0..wide {
                let through = if x[i] * factor[i] + offset[i] > floor { dy[i] } else { 0.0 };
                dx[i] = through;
                sums[i] += through;
                products[i] += through * (x[i] - means[i]);
            }
        }
        let mut own = vec![0.0; 2 * channels];
        let (for_scale, for_bias) = own.split_at_mut(channels);
        fold(&products, for_scale);
        fold(&sums, for_bias);
        for_scale.iter_mut().zip(inverse).for_each(|(product, inverse)| *product *= inverse);
        // dx = factor * dy - inverse * (mean of scale * dy + normalised x * mean of scale * dy * normalised x)
        let scaled = |sums: &[f32]| -> Vec<f32> {
            let mut means: Vec<f32> = sums.iter().zip(affine.scale).map(|(sum, scale)| sum * scale).collect();
            group_means(&mut means, groups, count);
            means.iter_mut().zip(inverse).for_each(|(mean, inverse)| *mean *= inverse);
            means
        };
        let (mut constant, mut slope) = (scaled(for_bias), scaled(for_scale));
        for i in 0..channels {
            slope[i] *= inverse[i];
            constant[i] -= mean[i] * slope[i];
        }
        let (constant, slope) = (constant.repeat(at_once), slope.repeat(at_once));
        for (x, dx) in x.chunks_exact(wide).zip(dx.chunks_exact_mut(wide)) {
            for i in 0..wide {
                dx[i] = factor[i] * dx[i] - constant[i] - x[i] * slope[i];
            }
        }
        affine_grad.iter_mut().zip(&own).for_each(|(sum, value)| *sum += value);
    }
}
