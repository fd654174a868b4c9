//! The drift F of one set of samples, for the toy and the tests.

use super::DriftError;
use super::batch::{Features, KeyBatch, KeyShape};
use super::phases::Measured;
use super::scale::{Mean, pool};
use super::settings::DriftSettings;

/// What repels the samples of [`field`].
#[derive(Clone, Copy, Debug)]
pub enum Negatives<'a> {
    /// The samples themselves.
    Own,
    /// Other points `[M, D]`.
    Others(&'a [f32]),
}

/// The drift of samples `x` `[N, D]` towards `positives` `[P, D]` and away from `negatives` (paper Algorithm 2).
///
/// `[N, D]`, in units of the features as the settings scale them; with [`DriftSettings::plain`] those of `x`.
///
/// # Errors
/// Lengths that are no multiple of `dim`, empty sets, settings that contradict each other, numbers that are not finite.
pub fn field(
    x: &[f32],
    positives: &[f32],
    negatives: Negatives<'_>,
    dim: usize,
    settings: &DriftSettings,
) -> Result<Vec<f32>, DriftError> {
    let (unconditional, own): (&[f32], _) = match negatives {
        Negatives::Own => (&[], true),
        Negatives::Others(points) => (points, false),
    };
    let points = |values: &[f32]| values.len() / dim.max(1);
    let shape = KeyShape {
        groups: 1,
        locations: 1,
        generated: points(x),
        positives: points(positives),
        unconditional: points(unconditional),
        dim,
    };
    let features = Features { generated: x, positives, unconditional, weight: &[1.0] };
    let batch = KeyBatch::with_negatives("field", shape, features, own)?;
    let measured = Measured::new(&batch, settings)?;
    let distances: Vec<_> = measured.distance_means().iter().map(Mean::value).collect();
    let drifts = measured.drifts(&distances)?;
    let squares: Vec<_> = drifts.square_means().iter().map(|groups| pool(groups, settings.scale_scope)).collect();
    drifts.force(&squares)
}
