//! The features of a stretch of class groups, in the memory of the processor or on another device.

use std::borrow::Cow;

use candle_core::Tensor;

use super::error::StepError;
use super::groups::Chunk;
use super::objective::StepObjective;
use crate::drift::{
    DriftError, Features, KeyBatch, KeyShape, Mean, Measured, TensorBatch, TensorMeans, TensorMeasured, TensorTargets,
    distance_means,
};
use crate::features::{FeatureKey, Views};

/// The features of a [`Chunk`].
pub(super) enum ChunkViews<'a> {
    /// As numbers.
    Host(HostViews<'a>),
    /// As tensors, on another device.
    Device(DeviceViews<'a>),
}

impl ChunkViews<'_> {
    /// Mean distances of each class group under each of `keys`.
    pub(super) fn distance_means(
        &self,
        step: &StepObjective<'_>,
        keys: &[FeatureKey],
    ) -> Result<Vec<Vec<Mean>>, StepError> {
        match self {
            Self::Host(views) => {
                let means = |key| Ok(distance_means(&views.features(step, key).batch()?, step.settings)?);
                keys.iter().map(means).collect()
            }
            Self::Device(views) => {
                let means = keys.iter().map(|key| Ok(views.measured(step, key)?.distance_means().clone()));
                let lists = read_means(&means.collect::<Result<Vec<_>, StepError>>()?)?;
                let checked = keys.iter().zip(lists).map(|(key, lists)| {
                    let means = lists.concat();
                    views.check(step, key, &means).map(|()| means)
                });
                checked.collect()
            }
        }
    }

    /// Mean squares of the drifts of each temperature and class group under each of `keys`, with their mean distances.
    pub(super) fn square_means(
        &self,
        step: &StepObjective<'_>,
        keys: &[FeatureKey],
        mean_distances: &[Vec<f64>],
    ) -> Result<Vec<Vec<Vec<Mean>>>, StepError> {
        match self {
            Self::Host(views) => {
                let means = |(key, distances): (&FeatureKey, &Vec<f64>)| {
                    let features = views.features(step, key);
                    let measured = Measured::new(&features.batch()?, step.settings)?;
                    Ok(measured.drifts(distances)?.square_means().to_vec())
                };
                keys.iter().zip(mean_distances).map(means).collect()
            }
            Self::Device(views) => {
                let means = |(key, distances): (&FeatureKey, &Vec<f64>)| {
                    let distances = Tensor::new(&distances[..], views.chunk.generated.device())?;
                    Ok::<_, StepError>(views.measured(step, key)?.drifts(&distances)?.square_means().clone())
                };
                let means = keys.iter().zip(mean_distances).map(means);
                Ok(read_means(&means.collect::<Result<Vec<_>, _>>()?)?)
            }
        }
    }
}

/// The numbers of flat tensors of f64, for which the host waits once.
pub(super) fn read_together(tensors: &[Tensor]) -> candle_core::Result<Vec<Vec<f64>>> {
    let all = Tensor::cat(tensors, 0)?.to_vec1::<f64>()?;
    let mut rest = &all[..];
    let part = |tensor: &Tensor| {
        let (part, after) = rest.split_at(tensor.elem_count());
        rest = after;
        part.to_vec()
    };
    Ok(tensors.iter().map(part).collect())
}

/// The lists of several means, for which the host waits once.
fn read_means(means: &[TensorMeans]) -> candle_core::Result<Vec<Vec<Vec<Mean>>>> {
    let numbers = means.iter().map(TensorMeans::numbers).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(means.iter().zip(read_together(&numbers)?).map(|(means, numbers)| means.of(&numbers)).collect())
}

/// The numbers behind a [`Chunk`].
pub(super) struct HostViews<'a> {
    pub(super) generated: Views<'a>,
    pub(super) real: Views<'a>,
    pub(super) chunk: &'a Chunk,
}

impl HostViews<'_> {
    /// The features under one key.
    pub(super) fn features<'v>(&'v self, step: &StepObjective<'v>, key: &'v FeatureKey) -> KeyFeatures<'v> {
        KeyFeatures {
            key: key.name(),
            shape: self.chunk.shape(key.locations(), key.dim()),
            generated: self.generated.features(step.space, key),
            real: self.real.features(step.space, key),
            weights: &step.weights[self.chunk.groups()],
        }
    }
}

/// The tensors of a [`Chunk`].
pub(super) struct DeviceViews<'a> {
    pub(super) chunk: &'a Chunk,
    pub(super) targets: TensorTargets<'a>,
}

impl DeviceViews<'_> {
    /// The distances under one key.
    pub(super) fn measured<'v>(
        &'v self,
        step: &StepObjective<'v>,
        key: &'v FeatureKey,
    ) -> Result<TensorMeasured<'v>, StepError> {
        let chunk = self.chunk;
        let (generated, real) = (chunk.generated.features(step.space, key)?, chunk.real.features(step.space, key)?);
        let shape = chunk.shape(key.locations(), key.dim());
        let batch = TensorBatch::new(key.name(), shape, &generated, &real, &self.targets)?;
        Ok(TensorMeasured::new(batch, step.settings)?)
    }

    /// Looks at the mean distances under one key.
    ///
    /// # Errors
    /// One that is not finite, by the features that it comes from, which are looked for again.
    fn check(&self, step: &StepObjective<'_>, key: &FeatureKey, means: &[Mean]) -> Result<(), StepError> {
        match means.iter().all(|mean| mean.sum.is_finite()) {
            true => Ok(()),
            false => Ok(self.measured(step, key)?.check(means)?),
        }
    }
}

/// The features of a stretch of class groups under one key.
pub(super) struct KeyFeatures<'a> {
    key: &'a str,
    shape: KeyShape,
    generated: Cow<'a, [f32]>,
    real: Cow<'a, [f32]>,
    weights: &'a [f32],
}

impl KeyFeatures<'_> {
    pub(super) fn batch(&self) -> Result<KeyBatch<'_>, DriftError> {
        let KeyShape { groups, positives, locations, dim, .. } = self.shape;
        let middle = (groups * positives * locations * dim).min(self.real.len());
        let (positives, unconditional) = self.real.split_at(middle);
        let features = Features { generated: &self.generated, positives, unconditional, weight: self.weights };
        KeyBatch::new(self.key, self.shape, features)
    }
}
