//! Which feature spaces a run drifts in.

use std::path::PathBuf;

use drifting_spec::ImageShape;
use serde::{Deserialize, Serialize};

use crate::features::{FeatureError, available_keys, select_keys};

/// Feature keys of the loss; each contributes one term of weight 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// `all`, names such as `global`, `layer2_blk4_std_2` or `patch_7`, and patterns such as `layer*_mean`.
    pub keys: Vec<String>,
    /// The network whose maps are drifted in; none for keys of the image alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderSettings>,
}

/// A trained encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// Weights of a masked autoencoder, or the run folder that it was trained in.
    pub mae: PathBuf,
}

impl FeatureSettings {
    /// Checks what can be known without the encoder's files.
    ///
    /// # Errors
    /// A key that does not exist or does not fit the image; with an encoder, only a list without keys.
    pub fn validate(&self, image: ImageShape) -> Result<(), FeatureError> {
        if self.encoder.is_none() || self.keys.is_empty() {
            select_keys(&available_keys(image, &[])?, image, &self.keys)?;
        }
        Ok(())
    }
}
