//! The normalisations of [`scale`](super::super::scale), on a device: nothing waits for the host.

use candle_core::{DType, Tensor};

use super::super::scale::{MIN_SCALE, MIN_SQUARE, Mean};
use super::super::settings::{DriftSettings, ScaleScope};
use super::TensorResult;

/// Lists of means, one for each class group, as [`Mean`]s are: in two parts.
#[derive(Clone, Debug)]
pub struct TensorMeans {
    /// Sums of what is averaged, f64 `[lists, groups]`.
    sums: Tensor,
    /// Number or weight of what is averaged in each group.
    counts: Vec<f64>,
}

impl TensorMeans {
    pub(super) fn new(sums: Tensor, counts: Vec<f64>) -> Self {
        Self { sums, counts }
    }

    pub(super) fn sums(&self) -> &Tensor {
        &self.sums
    }

    /// All sums, flat, to be read with other numbers; [`of`](Self::of) takes them back.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn numbers(&self) -> TensorResult<Tensor> {
        self.sums.flatten_all()
    }

    /// The lists, from [`numbers`](Self::numbers).
    #[must_use]
    pub fn of(&self, numbers: &[f64]) -> Vec<Vec<Mean>> {
        let list = |sums: &[f64]| sums.iter().zip(&self.counts).map(|(&sum, &count)| Mean { sum, count }).collect();
        numbers.chunks(self.counts.len().max(1)).map(list).collect()
    }

    /// The lists, for which the host waits.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn read(&self) -> TensorResult<Vec<Vec<Mean>>> {
        Ok(self.of(&self.numbers()?.to_vec1()?))
    }

    /// For each class group the means that it is normalised by, as [`pool`](super::super::pool) finds them: f64 `[lists, groups]`.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn pool(&self, scope: ScaleScope) -> TensorResult<Tensor> {
        match scope {
            ScaleScope::Batch | ScaleScope::Ema => {
                let mean = (self.sums.sum_keepdim(1)? / self.counts.iter().sum::<f64>())?;
                mean.broadcast_as(self.sums.shape())?.contiguous()
            }
            ScaleScope::Group => self.sums.broadcast_div(&Tensor::new(&self.counts[..], self.sums.device())?),
        }
    }
}

/// The lengths that class groups measure with, as [`Units`](super::super::scale::Units): numbers of single precision as f64
/// `[groups]`.
#[derive(Clone, Debug)]
pub(super) struct TensorUnits {
    /// s: drifts are those of G / s.
    pub(super) feature: Tensor,
    /// Unit of the distances that the kernel sees.
    pub(super) distance: Tensor,
}

impl TensorUnits {
    /// From S of each group, f64 `[groups]`.
    pub(super) fn new(mean_distances: &Tensor, dim: usize, settings: &DriftSettings) -> TensorResult<Self> {
        let root = (dim as f64).sqrt();
        let ones = mean_distances.ones_like()?;
        let feature = match settings.normalize_features {
            true => (mean_distances / root)?.maximum(MIN_SCALE)?,
            false => ones.clone(),
        };
        let distance = match (settings.normalize_features, settings.scale_temperature_by_sqrt_channels) {
            (true, true) => mean_distances.maximum(MIN_SCALE)?,
            (false, true) => (ones * root)?,
            (_, false) => feature.clone(),
        };
        let rounded = |unit: Tensor| unit.to_dtype(DType::F32)?.to_dtype(DType::F64);
        Ok(Self { feature: rounded(feature)?, distance: rounded(distance)? })
    }
}

/// What drifts of these mean squares are multiplied by, as [`drift_factor`](super::super::scale::drift_factor).
pub(super) fn drift_factors(mean_squares: &Tensor, settings: &DriftSettings) -> TensorResult<Tensor> {
    match settings.normalize_drift {
        true => mean_squares.maximum(MIN_SQUARE)?.sqrt()?.recip(),
        false => mean_squares.ones_like(),
    }
}

/// One number for each group, f64 `[groups]`, as a factor of f32 `[groups, T, ..]`.
pub(super) fn spread(numbers: &Tensor) -> TensorResult<Tensor> {
    numbers.to_dtype(DType::F32)?.contiguous()?.reshape(((), 1, 1, 1))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::super::pool;
    use super::super::super::scale::{Units, drift_factor};
    use super::*;

    #[test]
    fn means_are_pooled_as_on_the_host() {
        let sums = Tensor::new(&[[3.0f64, 7.0], [1.0, 0.5]], &Device::Cpu).unwrap();
        let means = TensorMeans::new(sums, vec![1.0, 3.0]);
        let lists = means.read().unwrap();
        assert_eq!(lists[1], [Mean { sum: 1.0, count: 1.0 }, Mean { sum: 0.5, count: 3.0 }]);
        for scope in [ScaleScope::Batch, ScaleScope::Group, ScaleScope::Ema] {
            let expected: Vec<_> = lists.iter().map(|list| pool(list, scope)).collect();
            assert_eq!(means.pool(scope).unwrap().to_vec2::<f64>().unwrap(), expected);
        }
    }

    #[test]
    fn units_and_factors_are_those_of_the_host() {
        let numbers = [6.0f64, 1e-5, 0.3];
        let tensor = Tensor::new(&numbers, &Device::Cpu).unwrap();
        for switches in 0..8 {
            let settings = DriftSettings {
                normalize_features: switches & 1 > 0,
                scale_temperature_by_sqrt_channels: switches & 2 > 0,
                normalize_drift: switches & 4 > 0,
                ..DriftSettings::default()
            };
            let units = TensorUnits::new(&tensor, 7, &settings).unwrap();
            let [features, distances] = [units.feature, units.distance].map(|unit| unit.to_vec1::<f64>().unwrap());
            let factors = drift_factors(&tensor, &settings).unwrap().to_vec1::<f64>().unwrap();
            for (at, &number) in numbers.iter().enumerate() {
                let units = Units::new(number, 7, &settings);
                assert_eq!([features[at], distances[at]], [units.feature, units.distance].map(f64::from));
                assert_eq!(factors[at], drift_factor(number, &settings));
            }
        }
    }
}
