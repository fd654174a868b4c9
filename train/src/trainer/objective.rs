//! The loss of a step over all feature keys, and its gradient with respect to the generated images.

use std::collections::BTreeMap;

use drifting_spec::ImageShape;
use serde::Serialize;

use crate::drift::{DriftError, DriftSettings, Features, KeyBatch, KeyShape, drift_key};
use crate::features::{FeatureError, PixelKey};

/// The images of one step, class group after class group, each image `[channels, height, width]`.
#[derive(Clone, Copy, Debug)]
pub struct StepImages<'a> {
    /// Class groups.
    pub groups: usize,
    /// `[groups, Ng, ..]`.
    pub generated: &'a [f32],
    /// `[groups, Np, ..]`.
    pub positives: &'a [f32],
    /// `[groups, Nu, ..]`.
    pub unconditional: &'a [f32],
    /// Guidance weights of the groups.
    pub weights: &'a [f32],
}

/// The quantities of one key that say something about training; the loss itself stays flat by construction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyMetrics {
    /// S, mean distance of generated features to their targets.
    pub scale: f64,
    /// Mean square m of the drift of each temperature before it is normalised, in the order of the settings.
    pub drift: Vec<f64>,
    /// Loss.
    pub loss: f64,
}

/// What a step's objective gives.
#[derive(Clone, Debug)]
pub struct Objective {
    /// d loss / d generated images, `[groups, Ng, ..]`.
    pub gradient: Vec<f32>,
    /// Sum of the losses of all keys.
    pub loss: f64,
    /// Every key's metrics by name.
    pub keys: BTreeMap<String, KeyMetrics>,
}

/// An objective that cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectiveError {
    /// A key does not fit the images.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// The drift of a key cannot be computed.
    #[error(transparent)]
    Drift(#[from] DriftError),
}

/// Sums the losses of `keys` (paper eq. 13, 14): features, their drift, and its closed-form gradient pulled back.
///
/// # Errors
/// Keys that do not fit the images; images that are not finite.
pub fn objective(
    images: &StepImages<'_>,
    shape: ImageShape,
    keys: &[PixelKey],
    settings: &DriftSettings,
) -> Result<Objective, ObjectiveError> {
    let per_group = |images: &[f32], groups: usize| images.len() / shape.len() / groups.max(1);
    let mut total = Objective { gradient: vec![0.0; images.generated.len()], loss: 0.0, keys: BTreeMap::new() };
    for key in keys {
        let (locations, dim) = key.size(shape)?;
        let key_shape = KeyShape {
            groups: images.groups,
            locations,
            generated: per_group(images.generated, images.groups),
            positives: per_group(images.positives, images.groups),
            unconditional: per_group(images.unconditional, images.groups),
            dim,
        };
        let [generated, positives, unconditional] =
            [images.generated, images.positives, images.unconditional].map(|images| key.extract(shape, images));
        let name = key.to_string();
        let features = Features {
            generated: &generated,
            positives: &positives,
            unconditional: &unconditional,
            weight: images.weights,
        };
        let outcome = drift_key(&KeyBatch::new(&name, key_shape, features)?, settings)?;
        key.pull_back(shape, images.generated, &outcome.gradient, &mut total.gradient);
        total.loss += outcome.loss;
        let metrics = KeyMetrics { scale: outcome.scale, drift: outcome.drift_norms, loss: outcome.loss };
        total.keys.insert(name, metrics);
    }
    Ok(total)
}
