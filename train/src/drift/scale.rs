//! Feature and drift normalisation (method steps 2, 3 and 5; paper A.6).

use super::batch::{KeyBatch, KeyShape};
use super::settings::{DriftSettings, ScaleScope};

/// Least feature scale and least unit of distance.
const MIN_SCALE: f64 = 1e-3;
/// Least mean square that a drift is normalised by.
const MIN_SQUARE: f64 = 1e-8;

/// The lengths that a class group measures with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Units {
    /// S, the mean distance.
    pub(super) mean_distance: f64,
    /// s: drifts are those of G / s.
    pub(super) feature: f32,
    /// Unit of the distances that the kernel sees.
    pub(super) distance: f32,
}

impl Units {
    /// s = max(S / sqrt(D), 1e-3), and distances in units of S (paper eq. 18-22).
    fn new(mean_distance: f64, dim: usize, settings: &DriftSettings) -> Self {
        let root = (dim as f64).sqrt();
        let feature = if settings.normalize_features { (mean_distance / root).max(MIN_SCALE) } else { 1.0 };
        let distance = match (settings.normalize_features, settings.scale_temperature_by_sqrt_channels) {
            (true, true) => mean_distance.max(MIN_SCALE),
            (false, true) => root,
            (_, false) => feature,
        };
        Self { mean_distance, feature: feature as f32, distance: distance as f32 }
    }
}

/// Units of each group: S = mean(d W) / mean(W), from the sums of d W of each problem.
pub(super) fn units(batch: &KeyBatch<'_>, sums: &[f64], settings: &DriftSettings) -> Vec<Units> {
    let KeyShape { locations, generated, dim, .. } = batch.shape();
    let weights: Vec<_> = (0..sums.len()).map(|problem| batch.weight_sum(problem / locations)).collect();
    let sums = pool(sums, locations, settings.scale_scope);
    let weights = pool(&weights, locations, settings.scale_scope);
    let mean = |(sum, weight): (f64, f64)| sum / (generated as f64 * weight);
    sums.into_iter().zip(weights).map(mean).map(|distance| Units::new(distance, dim, settings)).collect()
}

/// m of each group, the mean square of a drift, from the sums of squares of each problem.
pub(super) fn mean_squares(shape: KeyShape, sums: &[f64], scope: ScaleScope) -> Vec<f64> {
    let counts = vec![(shape.generated * shape.dim) as f64; sums.len()];
    let (sums, counts) = (pool(sums, shape.locations, scope), pool(&counts, shape.locations, scope));
    sums.into_iter().zip(counts).map(|(sum, count)| sum / count).collect()
}

/// What a drift of mean square m is multiplied by (paper eq. 23-25).
pub(super) fn drift_factor(mean_square: f64, settings: &DriftSettings) -> f64 {
    if settings.normalize_drift { mean_square.max(MIN_SQUARE).sqrt().recip() } else { 1.0 }
}

/// For each group the total over the problems that share its scale, added in their order.
fn pool(problems: &[f64], locations: usize, scope: ScaleScope) -> Vec<f64> {
    match scope {
        ScaleScope::Batch => vec![problems.iter().sum(); problems.len() / locations],
        ScaleScope::Group => problems.chunks_exact(locations).map(|group| group.iter().sum()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_share_totals_or_have_their_own() {
        let problems = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(pool(&problems, 2, ScaleScope::Batch), [10.0, 10.0]);
        assert_eq!(pool(&problems, 2, ScaleScope::Group), [3.0, 7.0]);
    }

    #[test]
    fn units_have_floors() {
        let official = DriftSettings::default();
        let units = Units::new(6.0, 4, &official);
        assert_eq!((units.feature, units.distance), (3.0, 6.0));
        let none = Units::new(1e-4, 4, &official);
        assert_eq!((none.feature, none.distance), (1e-3, 1e-3));
        let unscaled = DriftSettings { scale_temperature_by_sqrt_channels: false, ..official.clone() };
        assert_eq!(Units::new(6.0, 4, &unscaled).distance, 3.0);
        let plain = Units::new(6.0, 4, &DriftSettings::plain(0.5));
        assert_eq!((plain.feature, plain.distance), (1.0, 1.0));
        let raw = DriftSettings { normalize_features: false, ..official.clone() };
        assert_eq!((Units::new(6.0, 4, &raw).feature, Units::new(6.0, 4, &raw).distance), (1.0, 2.0));
        assert_eq!((drift_factor(0.0, &official), drift_factor(4.0, &official)), (1e4, 0.5));
    }
}
