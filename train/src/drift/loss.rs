//! The loss of one feature key and its gradient in closed form (method section 4; paper eq. 6, 13, 26).

use super::DriftError;
use super::batch::{KeyBatch, KeyShape};
use super::field::Drift;
use super::settings::{DriftSettings, Reduction};

/// What one feature key contributes to a step.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyOutcome {
    /// d loss / d G `[groups * Ng, T, D]`: -2 F / (s B Ng D).
    pub gradient: Vec<f32>,
    /// Mean square of F. Both normalisations keep it between 0 and the squared number of temperatures, roughly
    /// constant while training: no measure of progress.
    pub loss: f64,
    /// S, the mean distance of a generated sample to its targets; the mean over groups if each has its own.
    pub scale: f64,
    /// Mean square m of the drift V of each temperature before it is normalised; the mean over groups if each has its own.
    pub drift_norms: Vec<f64>,
}

/// The loss of `batch` and its gradient with respect to the generated features.
///
/// loss = mean over b, i, D of (G / s - goal)^2 with the goal G / s + F and s frozen, so nothing differentiates through
/// F. The same numbers come out whatever the number of threads.
///
/// # Errors
/// Settings that contradict each other, and features that are not finite.
pub fn drift_key(batch: &KeyBatch<'_>, settings: &DriftSettings) -> Result<KeyOutcome, DriftError> {
    let Drift { force: mut gradient, square, units, mean_squares } = Drift::of(batch, settings)?;
    let KeyShape { groups, locations, .. } = batch.shape();
    let slots = match settings.reduction {
        Reduction::Mean => 1.0,
        Reduction::Sum => locations as f64,
    };
    let count = gradient.len() as f64;
    let group_len = gradient.len() / groups;
    for (group, units) in gradient.chunks_exact_mut(group_len).zip(&units) {
        let factor = (-2.0 * slots / (f64::from(units.feature) * count)) as f32;
        group.iter_mut().for_each(|force| *force *= factor);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / groups as f64;
    let distances: Vec<_> = units.iter().map(|units| units.mean_distance).collect();
    let drift_norms = mean_squares.iter().map(|groups| mean(groups)).collect();
    Ok(KeyOutcome { gradient, loss: slots * square / count, scale: mean(&distances), drift_norms })
}
