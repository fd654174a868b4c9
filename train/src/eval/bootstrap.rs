//! Confidence by resampling.

use drifting_spec::Stream;
use serde::{Deserialize, Serialize};

use super::{Gaussian, Moments, Result, frechet_distance};

/// Groups of images that are resampled as one for a Fréchet distance.
pub const BLOCKS: usize = 50;
/// Resamples of a Fréchet distance.
const DISTANCES: u64 = 200;
/// Resamples of a share.
const SHARES: u64 = 1000;

/// Where a figure lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The interval of a share of images, from whether each counts: percentiles of the share over resampled images (Efron and
/// Tibshirani 1993, section 13.3). `None` without images.
#[must_use]
pub fn share_interval(counts: &[bool], seed: u64) -> Option<Interval> {
    let size = counts.len();
    let share = |index| {
        let mut stream = Stream::new(seed, "bootstrap.share", index);
        (0..size).filter(|_| counts[stream.below(size)]).count() as f64 / size as f64
    };
    (size > 0).then(|| percentiles((0..SHARES).map(share).collect()))
}

/// The interval of a Fréchet distance to `real` from the moments of blocks of generated images, so that no features need
/// to be kept. Whole blocks are resampled.
///
/// A resample holds some images more than once and others not at all, which puts its distance above that of as many
/// different images. So the percentiles are those of the deviations from the resamples' mean, laid around `distance`.
///
/// # Errors
/// As [`frechet_distance`].
pub fn distance_interval(blocks: &[Moments], real: &Gaussian, distance: f64, seed: u64) -> Result<Option<Interval>> {
    let [first, _, ..] = blocks else { return Ok(None) };
    let one = |index| {
        let mut stream = Stream::new(seed, "bootstrap.blocks", index);
        let mut moments = first.emptied()?;
        for _ in blocks {
            moments.merge(&blocks[stream.below(blocks.len())])?;
        }
        frechet_distance(&moments.gaussian()?, real)
    };
    let found = (0..DISTANCES).map(one).collect::<Result<Vec<_>>>()?;
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let Interval { low, high } = percentiles(found);
    Ok(Some(Interval { low: (distance + low - mean).max(0.0), high: distance + high - mean }))
}

/// The 2.5th and the 97.5th percentile.
fn percentiles(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    Interval { low: percentile(&values, 0.025), high: percentile(&values, 0.975) }
}

/// Between the two nearest of sorted values, in proportion; 0 where there are none.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * sorted.len().saturating_sub(1) as f64;
    let value = |place: f64| sorted.get(place as usize).copied().unwrap_or_default();
    value(at.floor()) + at.fract() * (value(at.ceil()) - value(at.floor()))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn percentiles_lie_between_neighbours() {
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!((percentile(&[7.0], 0.3), percentile(&[], 0.3)), (7.0, 0.0));
    }

    #[test]
    fn the_interval_of_a_share_is_that_of_the_binomial() {
        let counts: Vec<bool> = (0..400).map(|image| image % 5 == 0).collect();
        let found = share_interval(&counts, 1).unwrap();
        // 1.96 standard deviations of 0.02.
        assert!((found.low - 0.1608).abs() < 0.006 && (found.high - 0.2392).abs() < 0.006, "{found:?}");
        assert_eq!(share_interval(&counts, 1), Some(found));
        assert_eq!(share_interval(&[], 1), None);
    }

    #[test]
    fn the_interval_of_a_distance_is_as_wide_as_other_images_make_it() {
        let set = |index: u64, count: usize| {
            let values = Stream::new(index, "set", 0).normals(count * 4);
            (Tensor::from_vec(values, (count, 4), &Device::Cpu).unwrap() + 1.0).unwrap()
        };
        let real = Gaussian::of(&(set(900, 20_000) - 1.0).unwrap()).unwrap();
        let distance = |index: u64| frechet_distance(&Gaussian::of(&set(index, 1000)).unwrap(), &real).unwrap();
        let mut others: Vec<f64> = (0..200).map(distance).collect();
        others.sort_by(f64::total_cmp);
        let width = percentile(&others, 0.975) - percentile(&others, 0.025);
        let blocks: Vec<Moments> = (0..BLOCKS)
            .map(|block| {
                let mut moments = Moments::new(4).unwrap();
                moments.add(&set(7, 1000).narrow(0, block * 20, 20).unwrap()).unwrap();
                moments
            })
            .collect();
        let found = distance_interval(&blocks, &real, distance(7), 1).unwrap().unwrap();
        assert!(found.low < distance(7) && distance(7) < found.high, "{found:?}");
        let ratio = (found.high - found.low) / width;
        assert!((0.7..1.4).contains(&ratio), "{found:?} {width}");
        assert!(distance_interval(&blocks[..1], &real, 1.0, 1).unwrap().is_none());
    }
}
