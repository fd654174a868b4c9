//! The loss of one feature key and its gradient in closed form (method section 4; paper eq. 6, 13, 26).

use super::DriftError;
use super::batch::KeyBatch;
use super::phases::Measured;
use super::scale::{KeyScale, pool};
use super::settings::DriftSettings;

/// What one feature key contributes to a step.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyOutcome<G = Vec<f32>> {
    /// d loss / d G `[groups * Ng, T, D]`: -2 F / (s B Ng D).
    pub gradient: G,
    /// Mean square of F. Both normalisations keep it between 0 and the squared number of temperatures, roughly
    /// constant while training: no measure of progress.
    pub loss: f64,
}

/// The loss of `batch`, its gradient with respect to the generated features, and the scales that it was computed with.
///
/// loss = mean over b, i, D of (G / s - goal)^2 with the goal G / s + F and s frozen, so nothing differentiates through
/// F. The same numbers come out whatever the number of threads. A scope of `ema` has no past here and acts like `batch`.
///
/// # Errors
/// Settings that contradict each other, and features that are not finite.
pub fn drift_key(batch: &KeyBatch<'_>, settings: &DriftSettings) -> Result<(KeyOutcome, KeyScale), DriftError> {
    let measured = Measured::new(batch, settings)?;
    let distances = measured.distance_means();
    let drifts = measured.drifts(&pool(distances, settings.scale_scope))?;
    let squares = drifts.square_means();
    let pooled: Vec<_> = squares.iter().map(|groups| pool(groups, settings.scale_scope)).collect();
    let outcome = drifts.outcome(&pooled, batch.shape().groups)?;
    Ok((outcome, KeyScale::of(distances, squares, settings.scale_scope)))
}
