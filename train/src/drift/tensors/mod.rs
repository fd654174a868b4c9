//! The objective of one key in tensor operations: what [`phases`](super::phases) does, for devices other than the processor.
//!
//! All problems of a key are computed together: `[groups, T, ..]` before the sizes of one problem. Numbers come to the host
//! once for each phase, where the means of class groups are pooled.

mod affinity;
mod kernels;

use candle_core::{DType, Device, Tensor};

use self::affinity::Affinities;
use super::DriftError;
use super::batch::{Columns, Features, KeyBatch, KeyShape};
use super::loss::KeyOutcome;
use super::phases::{Measured, check_groups};
use super::problem::MIN_SQUARED_DISTANCE;
use super::scale::{Mean, Units, drift_factor};
use super::settings::{Distances, DriftSettings, Reduction, TemperatureAggregation};

type TensorResult<T> = candle_core::Result<T>;

/// One feature key of one step on a device, image by image as an encoder gives it. Generated samples are each other's negatives.
#[derive(Clone, Debug)]
pub struct TensorBatch<'a> {
    key: &'a str,
    shape: KeyShape,
    /// G `[groups * Ng, T, D]`
    generated: Tensor,
    /// P of all groups, then U `[groups * images, T, D]`
    real: Tensor,
    /// Guidance weight of each group.
    weight: &'a [f32],
}

impl<'a> TensorBatch<'a> {
    /// A batch for `key`, the name that errors call it by, from features `[groups * images, T, D]` of the generated images and
    /// of the real ones, the positives of all groups before the unconditional images.
    ///
    /// # Errors
    /// A size of 0 (only Nu may be), tensors that do not have the shape's sizes, weights that are negative or not finite.
    pub fn new(
        key: &'a str,
        shape: KeyShape,
        generated: &Tensor,
        real: &Tensor,
        weight: &'a [f32],
    ) -> Result<Self, DriftError> {
        shape.check(key, shape.generated)?;
        shape.check_weights(key, weight)?;
        let KeyShape { groups, locations, dim, positives, unconditional, .. } = shape;
        for (set, found, images) in
            [("generated", generated, shape.generated), ("real", real, positives + unconditional)]
        {
            let expected = [groups * images, locations, dim];
            if found.dims() != expected {
                let problem = format!("{set} features {:?}, expected {expected:?}", found.dims());
                return Err(DriftError::Shape { key: key.to_owned(), problem });
            }
        }
        Ok(Self { key, shape, generated: generated.detach(), real: real.detach(), weight })
    }

    /// G, U, P: `[groups * images, T, D]`, in the order of the targets.
    fn sets(&self) -> TensorResult<Vec<Tensor>> {
        let KeyShape { groups, positives, unconditional, .. } = self.shape;
        let mut sets = vec![self.generated.clone()];
        if unconditional > 0 {
            sets.push(self.real.narrow(0, groups * positives, groups * unconditional)?);
        }
        sets.push(self.real.narrow(0, 0, groups * positives)?);
        Ok(sets)
    }

    fn columns(&self) -> Columns {
        let KeyShape { generated, unconditional, positives, .. } = self.shape;
        let negatives = generated + unconditional;
        Columns { own: generated, negatives, targets: negatives + positives }
    }

    /// Weights W of the targets of a problem of `group`.
    fn weights(&self, group: usize) -> Vec<f64> {
        let Columns { own, negatives, targets } = self.columns();
        let weight = |column| if (own..negatives).contains(&column) { self.weight[group].into() } else { 1.0 };
        (0..targets).map(weight).collect()
    }

    /// The vectors of every problem, `[groups, T, images, D]`: generated samples, then the other targets.
    fn points(&self) -> TensorResult<Tensor> {
        let KeyShape { groups, locations, dim, .. } = self.shape;
        let problems = |set: &Tensor| {
            let images = set.dim(0)? / groups;
            set.reshape((groups, images, locations, dim))?.transpose(1, 2)?.contiguous()
        };
        let sets = self.sets()?.iter().map(problems).collect::<TensorResult<Vec<_>>>()?;
        Tensor::cat(&sets, 2)
    }

    /// One number for each group, as a factor of `[groups, T, ..]`.
    fn spread(&self, numbers: impl Iterator<Item = f64>) -> TensorResult<Tensor> {
        let numbers: Vec<f32> = numbers.map(|number| number as f32).collect();
        Tensor::from_vec(numbers, (self.shape.groups, 1, 1, 1), self.generated.device())
    }

    /// Why some distance is not finite.
    fn culprit(&self, settings: &DriftSettings) -> DriftError {
        let unknown = || DriftError::NotFinite { key: self.key.to_owned(), group: 0, location: 0, set: "some" };
        let numbers = |set: &Tensor| set.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>();
        let sets = self.sets().and_then(|sets| sets.iter().map(numbers).collect::<TensorResult<Vec<_>>>());
        let Ok(mut sets) = sets else { return unknown() };
        let positives = sets.pop().unwrap_or_default();
        let unconditional = if sets.len() > 1 { sets.pop().unwrap_or_default() } else { Vec::new() };
        let generated = sets.pop().unwrap_or_default();
        let features = Features {
            generated: &generated,
            positives: &positives,
            unconditional: &unconditional,
            weight: self.weight,
        };
        let found =
            KeyBatch::new(self.key, self.shape, features).and_then(|batch| Measured::new(&batch, settings).map(drop));
        found.err().unwrap_or_else(unknown)
    }
}

/// The distances of all problems of a batch (method step 1).
#[derive(Debug)]
pub struct TensorMeasured<'a> {
    batch: TensorBatch<'a>,
    settings: &'a DriftSettings,
    /// `[groups, T, images, D]`.
    points: Tensor,
    /// d `[groups, T, Ng, targets]`.
    distances: Tensor,
    /// 1 where a sample meets itself, `[Ng, targets]`.
    itself: Tensor,
    means: Vec<Mean>,
}

impl<'a> TensorMeasured<'a> {
    /// Measures the distances of `batch`.
    ///
    /// # Errors
    /// Settings that contradict each other, features that are not finite.
    pub fn new(batch: TensorBatch<'a>, settings: &'a DriftSettings) -> Result<Self, DriftError> {
        settings.validate()?;
        let key = batch.key;
        let measured = Self::measure(batch, settings).map_err(|error| failed(key, &error))?;
        match measured.means.iter().all(|mean| mean.sum.is_finite()) {
            true => Ok(measured),
            false => Err(measured.batch.culprit(settings)),
        }
    }

    fn measure(batch: TensorBatch<'a>, settings: &'a DriftSettings) -> TensorResult<Self> {
        let KeyShape { groups, locations, generated, .. } = batch.shape;
        let targets = batch.columns().targets;
        // Drifts do not depend on the centre, the precision of distances does.
        let centred = settings.distances == Distances::Accurate;
        let itself: Vec<f32> =
            (0..generated * targets).map(|at| f32::from(u8::from(at / targets == at % targets))).collect();
        let itself = Tensor::from_vec(itself, (generated, targets), batch.generated.device())?;
        let (points, distances) = match kernels::available(batch.generated.device()) {
            true => kernels::distances(&batch, centred)?,
            false => Self::distances(&batch, centred, &itself)?,
        };
        let sums = distances.reshape((groups, locations * generated, targets))?.sum(1)?.to_vec2::<f32>()?;
        let means = sums.iter().enumerate().map(|(group, sums)| {
            let weights = batch.weights(group);
            let sum = sums.iter().zip(&weights).map(|(&sum, weight)| f64::from(sum) * weight).sum();
            Mean { sum, count: (locations * generated) as f64 * weights.iter().sum::<f64>() }
        });
        let means = means.collect();
        Ok(Self { batch, settings, points, distances, itself, means })
    }

    /// Points and distances.
    fn distances(batch: &TensorBatch<'_>, centred: bool, itself: &Tensor) -> TensorResult<(Tensor, Tensor)> {
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
            squares = squares.broadcast_mul(&itself.affine(-1.0, 1.0)?)?;
        }
        Ok((points, squares.maximum(MIN_SQUARED_DISTANCE)?.sqrt()?))
    }

    /// Mean of d W over mean of W of each class group (method step 2).
    #[must_use]
    pub fn distance_means(&self) -> &[Mean] {
        &self.means
    }

    /// The drifts with S = `mean_distances`, one number for each class group.
    ///
    /// # Errors
    /// Another number of groups.
    pub fn drifts(&self, mean_distances: &[f64]) -> Result<TensorDrifts<'_>, DriftError> {
        let TensorBatch { key, shape, .. } = self.batch;
        check_groups(key, "mean distances", mean_distances.len(), shape.groups)?;
        let units = mean_distances.iter().map(|&distance| Units::new(distance, shape.dim, self.settings)).collect();
        TensorDrifts::measure(self, units).map_err(|error| failed(key, &error))
    }
}

/// The drifts V of all problems of a batch (method steps 3-5).
#[derive(Debug)]
pub struct TensorDrifts<'a> {
    measured: &'a TensorMeasured<'a>,
    units: Vec<Units>,
    /// V of each temperature `[groups, T, Ng, D]`, in units of the features.
    drifts: Vec<Tensor>,
    squares: Vec<Vec<Mean>>,
}

impl<'a> TensorDrifts<'a> {
    fn measure(measured: &'a TensorMeasured<'a>, units: Vec<Units>) -> TensorResult<Self> {
        let TensorMeasured { batch, settings, points, distances, itself, .. } = measured;
        let KeyShape { locations, generated, dim, .. } = batch.shape;
        let shares = batch.spread(units.iter().map(|units| f64::from(units.distance).recip()))?;
        let by_kernels = kernels::available(points.device());
        let together = match by_kernels {
            true => kernels::coefficients(batch, settings, distances, &shares)?,
            false => None,
        };
        let coefficients: Box<dyn Fn(usize, f32) -> TensorResult<Tensor> + '_> = match together {
            Some(together) => Box::new(move |at, _| together.get(at)),
            None => {
                let affinities = Affinities::new(batch, settings, itself)?;
                let mut scaled = distances.broadcast_mul(&shares)?;
                if settings.mask_self_negatives {
                    scaled = scaled.broadcast_add(&(itself * f64::from(settings.mask))?)?;
                }
                Box::new(move |_, temperature| affinities.coefficients(&scaled, temperature))
            }
        };
        let (mut drifts, mut sums) = (Vec::new(), Vec::new());
        for (at, &temperature) in settings.temperatures.iter().enumerate() {
            let drift = coefficients(at, temperature)?.matmul(points)?;
            sums.push(match by_kernels {
                true => kernels::square_sums(&drift)?,
                // One row after the other, so that sums of many numbers stay sums of few.
                false => drift.sqr()?.sum_keepdim(3)?.flatten_from(1)?.sum(1)?,
            });
            drifts.push(drift);
        }
        let count = (locations * generated * dim) as f64;
        let mean = |(units, &sum): (&Units, &f32)| {
            let unit = f64::from(units.feature);
            Mean { sum: f64::from(sum) / (unit * unit), count }
        };
        let sums = Tensor::stack(&sums, 0)?.to_vec2::<f32>()?;
        let squares = sums.iter().map(|sums| units.iter().zip(sums).map(mean).collect()).collect();
        Ok(Self { measured, units, drifts, squares })
    }

    /// Mean of V^2 of each temperature, of each class group (method step 5).
    #[must_use]
    pub fn square_means(&self) -> &[Vec<Mean>] {
        &self.squares
    }

    /// Loss and gradient `[groups * Ng, T, D]` with m = `mean_squares`, as [`Drifts::outcome`](super::Drifts::outcome) gives them.
    ///
    /// # Errors
    /// Another number of groups.
    pub fn outcome(&self, mean_squares: &[Vec<f64>], groups: usize) -> Result<KeyOutcome<Tensor>, DriftError> {
        let TensorBatch { key, shape, .. } = self.measured.batch;
        for squares in mean_squares {
            check_groups(key, "mean squares", squares.len(), shape.groups)?;
        }
        self.add_up(mean_squares, groups).map_err(|error| failed(key, &error))
    }

    fn add_up(&self, mean_squares: &[Vec<f64>], all_groups: usize) -> TensorResult<KeyOutcome<Tensor>> {
        let TensorMeasured { batch, settings, .. } = self.measured;
        let KeyShape { groups, locations, generated, dim, .. } = batch.shape;
        let units = || self.units.iter().map(|units| f64::from(units.feature));
        let factors = mean_squares.iter().map(|squares| {
            batch.spread(squares.iter().zip(units()).map(|(&square, unit)| drift_factor(square, settings) / unit))
        });
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
        let slopes = batch.spread(units().map(|unit| -2.0 * slots / (unit * count)))?;
        let (gradient, rows) = match by_kernels {
            true => kernels::gradient(&force, &slopes)?,
            false => {
                let gradient = force.broadcast_mul(&slopes)?.transpose(1, 2)?.contiguous()?;
                let rows = force.sqr()?.sum_keepdim(3)?.flatten_all()?;
                (gradient.reshape((groups * generated, locations, dim))?, rows)
            }
        };
        let square = match settings.temperature_aggregation {
            TemperatureAggregation::SumDrifts => rows.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?,
            TemperatureAggregation::SumLosses => {
                let means = self.squares.iter().flatten().zip(mean_squares.iter().flatten());
                means.map(|(mean, &square)| mean.sum * drift_factor(square, settings).powi(2)).sum()
            }
        };
        Ok(KeyOutcome { gradient, loss: slots * square / count })
    }

    /// The drifts of all temperatures, each times a factor for each group.
    fn force<'b>(drifts: impl Iterator<Item = (&'b Tensor, Tensor)>) -> TensorResult<Option<Tensor>> {
        let scaled = drifts.map(|(drift, factors)| drift.broadcast_mul(&factors));
        scaled.reduce(|sum, more| sum? + more?).transpose()
    }
}

fn failed(key: &str, error: &candle_core::Error) -> DriftError {
    DriftError::Tensor { key: key.to_owned(), problem: error.to_string() }
}

#[cfg(test)]
mod tests;
