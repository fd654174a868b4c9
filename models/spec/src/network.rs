//! What a file says about itself that holds a part of a model: an encoder, or a decoder alone.

use serde::{Deserialize, Serialize};

use crate::{ConfigError, DecoderConfig, ImageShape, MaeConfig, ManifestError, Pixels, Provenance};

/// The key of a [`NetworkManifest`] (JSON) in the ONNX file's `metadata_props`.
pub const NETWORK_KEY: &str = "drifting.network";

/// The layout of [`NetworkManifest`] that this version writes and reads.
const FORMAT: u32 = 1;

/// A network that is no generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkConfig {
    /// Latents to images.
    Decoder {
        /// Architecture.
        decoder: DecoderConfig,
        /// Shape of the latents.
        latent: ImageShape,
        /// What the image is made of.
        pixels: Pixels,
    },
    /// Images, or latents, to the feature maps of a masked autoencoder.
    Encoder(MaeConfig),
}

/// The description of an exported [`NetworkConfig`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkManifest {
    /// Version of this layout.
    pub format: u32,
    /// Name of the network, for people.
    pub name: String,
    /// Architecture, and with it the shapes of input and outputs.
    pub network: NetworkConfig,
    /// Origin of the weights.
    pub provenance: Provenance,
}

impl NetworkConfig {
    /// The shape of what it reads.
    #[must_use]
    pub fn input(&self) -> ImageShape {
        match self {
            Self::Decoder { latent, .. } => *latent,
            Self::Encoder(config) => config.image,
        }
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// Names the setting that does not fit and what would.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Decoder { decoder, latent, .. } => decoder.image_shape(*latent).map(|_| ()),
            Self::Encoder(config) => config.validate(),
        }
    }
}

impl NetworkManifest {
    /// A manifest in the current layout.
    #[must_use]
    pub fn new(name: String, network: NetworkConfig, provenance: Provenance) -> Self {
        Self { format: FORMAT, name, network, provenance }
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Text that is no manifest, one of another layout, and a network whose parts contradict each other.
    pub fn parse(json: &str) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_str(json)?;
        if manifest.format != FORMAT {
            return Err(ManifestError::Format(manifest.format));
        }
        manifest.network.validate()?;
        Ok(manifest)
    }

    /// The manifest as JSON.
    ///
    /// # Errors
    /// Only numbers that JSON cannot hold.
    pub fn to_json(&self) -> Result<String, ManifestError> {
        Ok(serde_json::to_string(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_brings_it_back() {
        let latent = ImageShape { channels: 32, height: 2, width: 3 };
        let decoder = NetworkConfig::Decoder { decoder: DecoderConfig::Taef2, latent, pixels: Pixels::Uint8 };
        let encoder = NetworkConfig::Encoder(MaeConfig::new(latent, 1, 8, 2));
        for network in [decoder, encoder] {
            let manifest = NetworkManifest::new("test".into(), network, Provenance::default());
            assert_eq!(manifest.network.input(), latent);
            assert_eq!(NetworkManifest::parse(&manifest.to_json().unwrap()).unwrap(), manifest);
            let newer = NetworkManifest { format: 9, ..manifest }.to_json().unwrap();
            assert!(matches!(NetworkManifest::parse(&newer), Err(ManifestError::Format(9))));
        }
        let other = ImageShape { channels: 4, ..latent };
        let decoder = NetworkConfig::Decoder { decoder: DecoderConfig::Taef2, latent: other, pixels: Pixels::Float };
        let manifest = NetworkManifest::new("test".into(), decoder, Provenance::default());
        assert!(NetworkManifest::parse(&manifest.to_json().unwrap()).is_err());
    }
}
