//! A stretch of class groups with its features.

use std::ops::Range;

use candle_core::Tensor;
use drifting_models::ops;
use drifting_spec::ImageShape;

use super::error::StepError;
use super::objective::StepObjective;
use super::views::{ChunkViews, DeviceViews, HostViews};
use crate::drift::{KeyShape, TensorTargets};
use crate::features::Encoded;

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
    pub(super) real: Encoded,
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
    pub(super) fn views<'a>(&'a self, step: &StepObjective<'a>) -> Result<ChunkViews<'a>, StepError> {
        let device = self.generated.device();
        Ok(match ops::fused(device) {
            true => ChunkViews::Host(HostViews {
                generated: self.generated.views()?,
                real: self.real.views()?,
                chunk: self,
            }),
            false => {
                // Sizes of a key do not matter.
                let shape = self.shape(0, 0);
                let targets = TensorTargets::new(shape, &step.weights[self.groups()], device)?;
                ChunkViews::Device(DeviceViews { chunk: self, targets })
            }
        })
    }

    /// Sizes under a key of so many vectors of so many numbers.
    pub(super) fn shape(&self, locations: usize, dim: usize) -> KeyShape {
        let GroupSizes { generated, positives, unconditional } = self.sizes;
        KeyShape { groups: self.groups.len(), locations, generated, positives, unconditional, dim }
    }
}
