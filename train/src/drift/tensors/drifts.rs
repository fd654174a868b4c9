//! Drifts, their squares, and from them loss and gradient.

use candle_core::{DType, Tensor};

use super::super::DriftError;
use super::super::batch::KeyShape;
use super::super::phases::check_groups;
use super::super::settings::{Reduction, TemperatureAggregation};
use super::affinity::Affinities;
use super::scale::{TensorMeans, TensorUnits, drift_factors, spread};
use super::{TensorMeasured, TensorResult, failed, kernels};

/// The drifts V of all problems of a batch (method steps 3-5).
#[derive(Debug)]
pub struct TensorDrifts<'a> {
    measured: &'a TensorMeasured<'a>,
    units: TensorUnits,
    /// V of each temperature `[groups, T, Ng, D]`, in units of the features.
    drifts: Vec<Tensor>,
    squares: TensorMeans,
}

/// What one feature key contributes to a step, as [`KeyOutcome`](super::super::KeyOutcome), on its device.
#[derive(Clone, Debug)]
pub struct TensorOutcome {
    /// d loss / d G `[groups * Ng, T, D]`.
    pub gradient: Tensor,
    /// Loss, one f64.
    pub loss: Tensor,
}

impl<'a> TensorDrifts<'a> {
    pub(super) fn measure(measured: &'a TensorMeasured<'a>, units: TensorUnits) -> TensorResult<Self> {
        let TensorMeasured { batch, settings, points, .. } = measured;
        let KeyShape { locations, generated, dim, .. } = batch.shape;
        let coefficients = Self::coefficients(measured, &spread(&units.distance.recip()?)?)?;
        let (mut drifts, mut sums) = (Vec::new(), Vec::new());
        for (at, &temperature) in settings.temperatures.iter().enumerate() {
            let drift = coefficients(at, temperature)?.matmul(points)?;
            sums.push(match kernels::available(points.device()) {
                true => kernels::square_sums(&drift)?,
                // One row after the other, so that sums of many numbers stay sums of few.
                false => drift.sqr()?.sum_keepdim(3)?.flatten_from(1)?.sum(1)?,
            });
            drifts.push(drift);
        }
        let count = (locations * generated * dim) as f64;
        let sums = Tensor::stack(&sums, 0)?.to_dtype(DType::F64)?.broadcast_div(&units.feature.sqr()?)?;
        let squares = TensorMeans::new(sums, vec![count; batch.shape.groups]);
        Ok(Self { measured, units, drifts, squares })
    }

    /// What gives the coefficients `[groups, T, Ng, targets]` of the temperature of this number and value; distances are
    /// multiplied by `shares`.
    fn coefficients(measured: &'a TensorMeasured<'a>, shares: &Tensor) -> TensorResult<Box<OfTemperature<'a>>> {
        let TensorMeasured { batch, settings, distances, .. } = measured;
        if kernels::available(distances.device())
            && let Some(together) = kernels::coefficients(batch, settings, distances, shares)?
        {
            return Ok(Box::new(move |at, _| together.get(at)));
        }
        let affinities = Affinities::new(batch, settings)?;
        let mut scaled = distances.broadcast_mul(shares)?;
        if settings.mask_self_negatives {
            scaled = scaled.broadcast_add(&(&batch.targets.itself * f64::from(settings.mask))?)?;
        }
        Ok(Box::new(move |_, temperature| affinities.coefficients(&scaled, temperature)))
    }

    /// Mean of V^2 of each temperature, of each class group (method step 5).
    #[must_use]
    pub fn square_means(&self) -> &TensorMeans {
        &self.squares
    }

    /// Loss and gradient with m = `mean_squares`, f64 `[temperatures, groups]`, as [`Drifts::outcome`](super::super::Drifts::outcome)
    /// gives them in a step of `groups` class groups.
    ///
    /// # Errors
    /// Another number of groups.
    pub fn outcome(&self, mean_squares: &Tensor, groups: usize) -> Result<TensorOutcome, DriftError> {
        let batch = &self.measured.batch;
        let found = mean_squares.elem_count() / self.drifts.len().max(1);
        check_groups(batch.key, "mean squares", found, batch.shape.groups)?;
        self.add_up(mean_squares, groups).map_err(|error| failed(batch.key, &error))
    }

    fn add_up(&self, mean_squares: &Tensor, all_groups: usize) -> TensorResult<TensorOutcome> {
        let TensorMeasured { batch, settings, .. } = self.measured;
        let KeyShape { groups, locations, generated, dim, .. } = batch.shape;
        let normalisers = drift_factors(mean_squares, settings)?;
        let factors = normalisers.broadcast_div(&self.units.feature)?;
        let factors = (0..self.drifts.len()).map(|at| spread(&factors.get(at)?));
        let factors = factors.collect::<TensorResult<Vec<_>>>()?;
        let drifts = self.drifts.iter().zip(factors);
        let by_kernels = kernels::available(batch.generated.device());
        let force = match by_kernels {
            true => kernels::force(drifts)?,
            false => Self::force(drifts)?,
        };
        let Some(force) = force else { candle_core::bail!("no temperatures") };
        let slots = match settings.reduction {
            Reduction::Mean => 1.0,
            Reduction::Sum => locations as f64,
        };
        let count = (all_groups * generated * locations * dim) as f64;
        let slopes = spread(&(self.units.feature.recip()? * (-2.0 * slots / count))?)?;
        let (gradient, rows) = match by_kernels {
            true => kernels::gradient(&force, &slopes)?,
            false => {
                let gradient = force.broadcast_mul(&slopes)?.transpose(1, 2)?.contiguous()?;
                let rows = force.sqr()?.sum_keepdim(3)?.flatten_all()?;
                (gradient.reshape((groups * generated, locations, dim))?, rows)
            }
        };
        let square = match settings.temperature_aggregation {
            TemperatureAggregation::SumDrifts => rows.to_dtype(DType::F64)?.sum_all()?,
            TemperatureAggregation::SumLosses => (self.squares.sums() * normalisers.sqr()?)?.sum_all()?,
        };
        Ok(TensorOutcome { gradient, loss: (square * (slots / count))? })
    }

    /// The drifts of all temperatures, each times a factor for each group.
    fn force<'b>(drifts: impl Iterator<Item = (&'b Tensor, Tensor)>) -> TensorResult<Option<Tensor>> {
        let scaled = drifts.map(|(drift, factors)| drift.broadcast_mul(&factors));
        scaled.reduce(|sum, more| sum? + more?).transpose()
    }
}

type OfTemperature<'a> = dyn Fn(usize, f32) -> TensorResult<Tensor> + 'a;
