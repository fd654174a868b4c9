//! A stretch of class groups with its features.

use std::borrow::Cow;
use std::ops::Range;

use candle_core::Tensor;
use drifting_models::ops;
use drifting_spec::ImageShape;

use super::error::StepError;
use super::objective::StepObjective;
use crate::drift::{
    DriftError, Features, KeyBatch, KeyShape, Mean, Measured, TensorBatch, TensorMeasured, distance_means,
};
use crate::features::{Encoded, FeatureKey, Views};

/// Images of each class group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSizes {
    /// Generated, Ng.
    pub generated: usize,
    /// Real ones of the class, Np.
    pub positives: usize,
    /// Real ones of any class, Nu.
    pub unconditional: usize,
}

/// The real images of a step, class group after class group, each `[channels, height, width]`.
#[derive(Clone, Copy, Debug)]
pub struct RealImages<'a> {
    /// `[groups, Np, ..]`.
    pub positives: &'a [f32],
    /// `[groups, Nu, ..]`.
    pub unconditional: &'a [f32],
}

/// A stretch of class groups: its generated images and its real ones, encoded.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) generated: Encoded,
    /// Positives of all groups, then unconditional images.
    real: Encoded,
    groups: Range<usize>,
    sizes: GroupSizes,
}

impl Chunk {
    /// Encodes the generated `images` of `groups`, in their graph if they have one, and the real ones in one pass.
    pub(super) fn new(step: &StepObjective<'_>, groups: Range<usize>, images: &Tensor) -> Result<Self, StepError> {
        let (shape, sizes) = (step.generator.config().image, step.sizes);
        let generated = step.space.encode(images)?;
        let ImageShape { channels, height, width } = shape;
        let part = |images: &[f32], per_group: usize| {
            let len = per_group * shape.len();
            images[groups.start * len..groups.end * len].to_vec()
        };
        let mut real = part(step.real.positives, sizes.positives);
        real.append(&mut part(step.real.unconditional, sizes.unconditional));
        let count = groups.len() * (sizes.positives + sizes.unconditional);
        let real = Tensor::from_vec(real, (count, channels, height, width), images.device())?;
        Ok(Self { generated, real: step.space.encode(&real)?, groups, sizes })
    }

    /// The class groups.
    pub(super) fn groups(&self) -> Range<usize> {
        self.groups.clone()
    }

    /// Access to all features, where they are.
    pub(super) fn views(&self) -> Result<ChunkViews<'_>, StepError> {
        Ok(match ops::fused(self.generated.device()) {
            true => ChunkViews::Host(HostViews {
                generated: self.generated.views()?,
                real: self.real.views()?,
                chunk: self,
            }),
            false => ChunkViews::Device(DeviceViews(self)),
        })
    }

    fn shape(&self, key: &FeatureKey) -> KeyShape {
        let GroupSizes { generated, positives, unconditional } = self.sizes;
        let (groups, locations, dim) = (self.groups.len(), key.locations(), key.dim());
        KeyShape { groups, locations, generated, positives, unconditional, dim }
    }
}

/// The features of a [`Chunk`].
pub(super) enum ChunkViews<'a> {
    /// As numbers.
    Host(HostViews<'a>),
    /// As tensors, on another device.
    Device(DeviceViews<'a>),
}

impl ChunkViews<'_> {
    /// Mean distances of each class group under one key.
    pub(super) fn distance_means(&self, step: &StepObjective<'_>, key: &FeatureKey) -> Result<Vec<Mean>, StepError> {
        Ok(match self {
            Self::Host(views) => distance_means(&views.features(step, key).batch()?, step.settings)?,
            Self::Device(views) => views.measured(step, key)?.distance_means().to_vec(),
        })
    }

    /// Mean squares of the drifts of each temperature and class group, with these mean distances.
    pub(super) fn square_means(
        &self,
        step: &StepObjective<'_>,
        key: &FeatureKey,
        mean_distances: &[f64],
    ) -> Result<Vec<Vec<Mean>>, StepError> {
        Ok(match self {
            Self::Host(views) => {
                let features = views.features(step, key);
                let measured = Measured::new(&features.batch()?, step.settings)?;
                measured.drifts(mean_distances)?.square_means().to_vec()
            }
            Self::Device(views) => views.measured(step, key)?.drifts(mean_distances)?.square_means().to_vec(),
        })
    }
}

/// The numbers behind a [`Chunk`].
pub(super) struct HostViews<'a> {
    pub(super) generated: Views<'a>,
    real: Views<'a>,
    chunk: &'a Chunk,
}

impl HostViews<'_> {
    /// The features under one key.
    pub(super) fn features<'v>(&'v self, step: &StepObjective<'v>, key: &'v FeatureKey) -> KeyFeatures<'v> {
        KeyFeatures {
            key: key.name(),
            shape: self.chunk.shape(key),
            generated: self.generated.features(step.space, key),
            real: self.real.features(step.space, key),
            weights: &step.weights[self.chunk.groups()],
        }
    }
}

/// The tensors of a [`Chunk`].
pub(super) struct DeviceViews<'a>(&'a Chunk);

impl DeviceViews<'_> {
    /// The distances under one key.
    pub(super) fn measured<'v>(
        &self,
        step: &StepObjective<'v>,
        key: &'v FeatureKey,
    ) -> Result<TensorMeasured<'v>, StepError> {
        let chunk = self.0;
        let (generated, real) = (chunk.generated.features(step.space, key)?, chunk.real.features(step.space, key)?);
        let weights = &step.weights[chunk.groups()];
        let batch = TensorBatch::new(key.name(), chunk.shape(key), &generated, &real, weights)?;
        Ok(TensorMeasured::new(batch, step.settings)?)
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
