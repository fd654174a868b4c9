//! Feature and drift normalisation (method steps 2, 3 and 5; paper A.6).

use super::settings::{DriftSettings, ScaleScope};

/// Least feature scale and least unit of distance.
pub(super) const MIN_SCALE: f64 = 1e-3;
/// Least mean square that a drift is normalised by.
pub(super) const MIN_SQUARE: f64 = 1e-8;

/// The lengths that a class group measures with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Units {
    /// s: drifts are those of G / s.
    pub(super) feature: f32,
    /// Unit of the distances that the kernel sees.
    pub(super) distance: f32,
}

impl Units {
    /// s = max(S / sqrt(D), 1e-3), and distances in units of S (paper eq. 18-22).
    pub(super) fn new(mean_distance: f64, dim: usize, settings: &DriftSettings) -> Self {
        let root = (dim as f64).sqrt();
        let feature = if settings.normalize_features { (mean_distance / root).max(MIN_SCALE) } else { 1.0 };
        let distance = match (settings.normalize_features, settings.scale_temperature_by_sqrt_channels) {
            (true, true) => mean_distance.max(MIN_SCALE),
            (false, true) => root,
            (_, false) => feature,
        };
        Self { feature: feature as f32, distance: distance as f32 }
    }
}

/// What a drift of mean square m is multiplied by (paper eq. 23-25).
pub(super) fn drift_factor(mean_square: f64, settings: &DriftSettings) -> f64 {
    if settings.normalize_drift { mean_square.max(MIN_SQUARE).sqrt().recip() } else { 1.0 }
}

/// A mean in two parts, so that means of parts can be pooled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    /// Sum of what is averaged.
    pub sum: f64,
    /// Number or weight of what is averaged.
    pub count: f64,
}

impl Mean {
    /// The mean; 0 of nothing.
    #[must_use]
    pub fn value(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }

    /// The mean of all, added in their order.
    #[must_use]
    pub fn of_all(means: &[Self]) -> Self {
        let add = |a: Self, b: &Self| Self { sum: a.sum + b.sum, count: a.count + b.count };
        means.iter().fold(Self::default(), add)
    }
}

/// For each class group the mean that it is normalised by, from the means of all groups of a step.
#[must_use]
pub fn pool(groups: &[Mean], scope: ScaleScope) -> Vec<f64> {
    match scope {
        ScaleScope::Batch | ScaleScope::Ema => vec![Mean::of_all(groups).value(); groups.len()],
        ScaleScope::Group => groups.iter().map(Mean::value).collect(),
    }
}

/// The two normalisations of a feature key in one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyScale {
    /// S, the mean distance of a generated sample to its targets; the mean over groups if each has its own.
    pub distance: f64,
    /// Mean square m of the drift of each temperature before it is normalised; the mean over groups if each has its own.
    pub squares: Vec<f64>,
}

impl KeyScale {
    /// From the means of all class groups of a step: distances, and squares of each temperature.
    #[must_use]
    pub fn of(distances: &[Mean], squares: &[Vec<Mean>], scope: ScaleScope) -> Self {
        let mean = |groups: &[Mean]| pool(groups, scope).iter().sum::<f64>() / groups.len().max(1) as f64;
        Self { distance: mean(distances), squares: squares.iter().map(|groups| mean(groups)).collect() }
    }

    /// decay * self + (1 - decay) * now, the memory of the scope `ema`.
    pub fn remember(&mut self, now: &Self, decay: f64) {
        let blend = |before: &mut f64, now: f64| *before = decay * *before + (1.0 - decay) * now;
        blend(&mut self.distance, now.distance);
        self.squares.iter_mut().zip(&now.squares).for_each(|(before, now)| blend(before, *now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_share_totals_or_have_their_own() {
        let groups = [Mean { sum: 3.0, count: 1.0 }, Mean { sum: 7.0, count: 3.0 }];
        assert_eq!(pool(&groups, ScaleScope::Batch), [2.5, 2.5]);
        assert_eq!(pool(&groups, ScaleScope::Ema), [2.5, 2.5]);
        assert_eq!(pool(&groups, ScaleScope::Group), [3.0, 7.0 / 3.0]);
        assert_eq!(Mean::default().value(), 0.0);
    }

    #[test]
    fn a_scale_remembers_its_past() {
        let mut scale = KeyScale { distance: 2.0, squares: vec![1.0, 4.0] };
        scale.remember(&KeyScale { distance: 4.0, squares: vec![2.0, 0.0] }, 0.75);
        assert_eq!(scale, KeyScale { distance: 2.5, squares: vec![1.25, 3.0] });
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
