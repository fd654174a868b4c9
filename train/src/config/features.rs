//! Which feature spaces a run drifts in.

use std::path::PathBuf;

use drifting_spec::ImageShape;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::features::{FeatureError, available_keys, select_keys};

/// Feature keys of the loss; each contributes one term of weight 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureSettings {
    /// `all`, names such as `global`, `layer2_blk4_std_2` or `patch_7`, and patterns such as `layer*_mean`.
    pub keys: Vec<String>,
    /// The network whose maps are drifted in; none for keys of the image alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderSettings>,
    /// Folder of a published ConvNeXt-V2 (`config.json`, `model.safetensors`), whose keys come on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convnext: Option<PathBuf>,
    /// Folder of an autoencoder for generators of latents: the encoders see what its decoder makes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<PathBuf>,
    /// What the key `norm_x` takes of the encoder's input.
    #[serde(default, skip_serializing_if = "InputStatistic::is_official")]
    pub input_statistic: InputStatistic,
}

/// What the key `norm_x` is, channel by channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InputStatistic {
    /// sqrt(mean of x^2 + 1e-6) (official).
    #[default]
    RootMeanSquare,
    /// Mean of x^2 (paper A.5, seed documents).
    MeanSquare,
}

impl InputStatistic {
    fn is_official(&self) -> bool {
        *self == Self::default()
    }
}

/// A trained encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncoderSettings {
    /// Weights of a masked autoencoder, or the run folder that it was trained in.
    pub mae: PathBuf,
}

impl FeatureSettings {
    /// Checks what can be known without the encoder's files.
    ///
    /// # Errors
    /// A key that does not exist or does not fit the image; with an encoder, only a list without keys. A decoder without
    /// an encoder.
    pub fn validate(&self, image: ImageShape) -> Result<(), FeatureError> {
        let encoded = self.encoder.is_some() || self.convnext.is_some();
        if self.decoder.is_some() && !encoded {
            let problem = "needs an encoder of the decoded images: set encoder or convnext".to_owned();
            return Err(FeatureError::Mismatch { key: "decoder", problem });
        }
        if !encoded || self.keys.is_empty() {
            select_keys(&available_keys(image, &[])?, image, &self.keys)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };

    fn parse(text: &str) -> FeatureSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn encoders_are_named_in_the_settings() {
        let settings = parse("keys = [\"layer*_mean\"]\nencoder = { mae = \"runs/mae\" }");
        assert_eq!(settings.encoder, Some(EncoderSettings { mae: "runs/mae".into() }));
        settings.validate(IMAGE).unwrap();
        assert_eq!(parse(&toml::to_string(&settings).unwrap()), settings);
        let squares = parse("keys = [\"all\"]\nencoder = { mae = \"x\" }\ninput_statistic = \"mean-square\"");
        assert_eq!(parse(&toml::to_string(&squares).unwrap()).input_statistic, InputStatistic::MeanSquare);
        assert!(toml::from_str::<FeatureSettings>("keys = []\nencoder = { vit = \"x\" }").is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |text: &str| parse(text).validate(IMAGE).unwrap_err().to_string();
        assert!(message("keys = [\"layer1\"]").contains("\"layer1\" is no feature key; there are global"));
        assert!(message("keys = []\nencoder = { mae = \"x\" }").contains("needs at least one key"));
        let decoder = message("keys = [\"all\"]\ndecoder = \"vae\"");
        assert_eq!(decoder, "features.decoder: needs an encoder of the decoded images: set encoder or convnext");
    }
}
