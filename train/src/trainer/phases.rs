//! The phases of a key's objective, whose features lie in the memory of the processor or on a device.

use candle_core::Tensor;

use crate::drift::{DriftError, Drifts, KeyOutcome, Mean, Measured, TensorDrifts, TensorMeasured};

/// Measured distances of one key; its gradient comes as a `G`.
pub(super) trait Phases<G> {
    /// Mean distance of each class group.
    fn distance_means(&self) -> &[Mean];

    /// The drifts with these mean distances.
    fn drifts(&self, mean_distances: &[f64]) -> Result<Box<dyn DriftPhases<G> + '_>, DriftError>;
}

/// The drifts of one key.
pub(super) trait DriftPhases<G> {
    /// Mean square of each temperature and class group.
    fn square_means(&self) -> &[Vec<Mean>];

    /// Loss and gradient with these mean squares, in a step of `groups` class groups.
    fn outcome(&self, mean_squares: &[Vec<f64>], groups: usize) -> Result<KeyOutcome<G>, DriftError>;
}

impl Phases<Vec<f32>> for Measured<'_> {
    fn distance_means(&self) -> &[Mean] {
        self.distance_means()
    }

    fn drifts(&self, mean_distances: &[f64]) -> Result<Box<dyn DriftPhases<Vec<f32>> + '_>, DriftError> {
        Ok(Box::new(self.drifts(mean_distances)?))
    }
}

impl DriftPhases<Vec<f32>> for Drifts<'_> {
    fn square_means(&self) -> &[Vec<Mean>] {
        self.square_means()
    }

    fn outcome(&self, mean_squares: &[Vec<f64>], groups: usize) -> Result<KeyOutcome, DriftError> {
        self.outcome(mean_squares, groups)
    }
}

impl Phases<Tensor> for TensorMeasured<'_> {
    fn distance_means(&self) -> &[Mean] {
        self.distance_means()
    }

    fn drifts(&self, mean_distances: &[f64]) -> Result<Box<dyn DriftPhases<Tensor> + '_>, DriftError> {
        Ok(Box::new(self.drifts(mean_distances)?))
    }
}

impl DriftPhases<Tensor> for TensorDrifts<'_> {
    fn square_means(&self) -> &[Vec<Mean>] {
        self.square_means()
    }

    fn outcome(&self, mean_squares: &[Vec<f64>], groups: usize) -> Result<KeyOutcome<Tensor>, DriftError> {
        self.outcome(mean_squares, groups)
    }
}
