//! Distances, and their means.

use candle_core::{DType, Tensor};

use super::super::DriftError;
use super::super::batch::KeyShape;
use super::super::phases::check_groups;
use super::super::problem::MIN_SQUARED_DISTANCE;
use super::super::scale::Mean;
use super::super::settings::{Distances, DriftSettings};
use super::scale::{TensorMeans, TensorUnits};
use super::{TensorBatch, TensorDrifts, TensorResult, failed, kernels};

/// The distances of all problems of a batch (method step 1).
#[derive(Debug)]
pub struct TensorMeasured<'a> {
    pub(super) batch: TensorBatch<'a>,
    pub(super) settings: &'a DriftSettings,
    /// `[groups, T, images, D]`.
    pub(super) points: Tensor,
    /// d `[groups, T, Ng, targets]`.
    pub(super) distances: Tensor,
    means: TensorMeans,
}

impl<'a> TensorMeasured<'a> {
    /// Measures the distances of `batch`.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub fn new(batch: TensorBatch<'a>, settings: &'a DriftSettings) -> Result<Self, DriftError> {
        settings.validate()?;
        let key = batch.key;
        Self::measure(batch, settings).map_err(|error| failed(key, &error))
    }

    fn measure(batch: TensorBatch<'a>, settings: &'a DriftSettings) -> TensorResult<Self> {
        let KeyShape { groups, locations, generated, .. } = batch.shape;
        let targets = batch.columns().targets;
        // Drifts do not depend on the centre, the precision of distances does.
        let centred = settings.distances == Distances::Accurate;
        let (points, distances) = match kernels::available(batch.generated.device()) {
            true => kernels::distances(&batch, centred)?,
            false => Self::distances(&batch, centred)?,
        };
        let sums = distances.reshape((groups, locations * generated, targets))?.sum(1)?.to_dtype(DType::F64)?;
        let sums = (sums * &batch.targets.wide)?.sum(1)?.unsqueeze(0)?;
        let counts = batch.targets.sums().map(|weights| (locations * generated) as f64 * weights).collect();
        Ok(Self { batch, settings, points, distances, means: TensorMeans::new(sums, counts) })
    }

    /// Points and distances.
    fn distances(batch: &TensorBatch<'_>, centred: bool) -> TensorResult<(Tensor, Tensor)> {
        let (mut points, generated) = (batch.points()?, batch.shape.generated);
        if centred {
            points = points.broadcast_sub(&points.mean_keepdim(2)?)?;
        }
        let norms = points.sqr()?.sum_keepdim(3)?;
        let samples = points.narrow(2, 0, generated)?.contiguous()?;
        let products = samples.matmul(&points.t()?)?;
        let sums = norms.narrow(2, 0, generated)?.broadcast_add(&norms.t()?)?;
        let mut squares = (sums - (products * 2.0)?)?;
        if centred {
            squares = squares.broadcast_mul(&batch.targets.itself.affine(-1.0, 1.0)?)?;
        }
        Ok((points, squares.maximum(MIN_SQUARED_DISTANCE)?.sqrt()?))
    }

    /// Mean of d W over mean of W of each class group (method step 2): one list.
    #[must_use]
    pub fn distance_means(&self) -> &TensorMeans {
        &self.means
    }

    /// Looks at the means, which the host has read.
    ///
    /// # Errors
    /// One that is not finite, by the features that it comes from.
    pub fn check(&self, means: &[Mean]) -> Result<(), DriftError> {
        match means.iter().all(|mean| mean.sum.is_finite()) {
            true => Ok(()),
            false => Err(self.batch.culprit(self.settings)),
        }
    }

    /// The drifts with S = `mean_distances`, one f64 for each class group.
    ///
    /// # Errors
    /// Another number of groups.
    pub fn drifts(&self, mean_distances: &Tensor) -> Result<TensorDrifts<'_>, DriftError> {
        let TensorBatch { key, shape, .. } = self.batch;
        check_groups(key, "mean distances", mean_distances.elem_count(), shape.groups)?;
        let units = mean_distances.flatten_all().and_then(|s| TensorUnits::new(&s, shape.dim, self.settings));
        units.and_then(|units| TensorDrifts::measure(self, units)).map_err(|error| failed(key, &error))
    }
}
