//! The shape of a decoder, which turns a generator's latents into images.

use serde::{Deserialize, Serialize};

use crate::{ConfigError, ImageShape};

/// The decoder of an autoencoder: everything that decides its architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum DecoderConfig {
    /// Of an `AutoencoderKL`, the autoencoder of Stable Diffusion.
    Kl(KlDecoder),
    /// Of TAEF2: 32 latent channels, sides 8 times as long, latents used as they are.
    Taef2,
}

/// The decoder of an `AutoencoderKL`, as far as its `config.json` decides it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlDecoder {
    /// Channels of the images.
    pub image_channels: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Width of each stage, from the image inwards; sides are doubled between two.
    pub widths: Vec<usize>,
    /// Residual blocks of each stage.
    pub blocks: usize,
    /// Groups of every normalisation.
    pub groups: usize,
    /// Latents are divided by this before they are decoded,
    pub scale: f64,
    /// and this is added then.
    pub shift: f64,
    /// Whether a 1x1 convolution comes first.
    pub post_quant_conv: bool,
    /// Whether the innermost blocks attend over all positions.
    pub attention: bool,
}

/// Most stages of a decoder.
const MAX_STAGES: usize = 8;

/// Longest side of an image.
const MAX_SIDE: usize = 1 << 14;

impl DecoderConfig {
    /// What the autoencoder is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kl(_) => "autoencoder-kl",
            Self::Taef2 => "taef2",
        }
    }

    /// Channels of latents and of images.
    #[must_use]
    pub fn channels(&self) -> (usize, usize) {
        match self {
            Self::Kl(config) => (config.latent_channels, config.image_channels),
            Self::Taef2 => (32, 3),
        }
    }

    /// Pixels of an image's side to one of its latent's.
    #[must_use]
    pub fn reduction(&self) -> usize {
        match self {
            Self::Kl(config) => 1 << config.widths.len().clamp(1, MAX_STAGES).saturating_sub(1),
            Self::Taef2 => 8,
        }
    }

    /// The shape of the images of latents of this shape.
    ///
    /// # Errors
    /// A configuration that contradicts itself, latents of other channels or too large.
    pub fn image_shape(&self, latent: ImageShape) -> Result<ImageShape, ConfigError> {
        self.validate()?;
        let (latent_channels, channels) = self.channels();
        let side = self.reduction();
        require("latent", latent.channels == latent_channels, || {
            format!("latents of {} channels, the decoder reads {latent_channels}", latent.channels)
        })?;
        let fits = |length: usize| (1..=MAX_SIDE / side).contains(&length);
        require("latent", fits(latent.height) && fits(latent.width), || {
            format!("latents of {}x{}: sides must lie between 1 and {}", latent.height, latent.width, MAX_SIDE / side)
        })?;
        Ok(ImageShape { channels, height: side * latent.height, width: side * latent.width })
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// Names the setting that does not fit and what would.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self::Kl(config) = self else { return Ok(()) };
        let stages = config.widths.len();
        require("widths", (1..=MAX_STAGES).contains(&stages), || {
            format!("{stages} stages, expected 1 to {MAX_STAGES}")
        })?;
        let sizes = [config.image_channels, config.latent_channels, config.blocks, config.groups];
        let whole = sizes.iter().chain(&config.widths).all(|size| (1..=1 << 16).contains(size));
        require("widths", whole, || "channels, blocks and groups must lie between 1 and 65536".to_owned())?;
        if let Some(width) = config.widths.iter().find(|width| !width.is_multiple_of(config.groups)) {
            return require("widths", false, || format!("{width} is no multiple of {} groups", config.groups));
        }
        require("scale", config.scale.is_finite() && config.scale > 0.0 && config.shift.is_finite(), || {
            format!("{} is not a positive number, or the shift {} no number", config.scale, config.shift)
        })
    }
}

fn require(key: &'static str, holds: bool, problem: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { section: "decoder", key, problem: problem() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kl() -> KlDecoder {
        KlDecoder {
            image_channels: 3,
            latent_channels: 4,
            widths: vec![8, 16],
            blocks: 3,
            groups: 4,
            scale: 0.18215,
            shift: 0.0,
            post_quant_conv: true,
            attention: true,
        }
    }

    #[test]
    fn sides_grow_with_the_stages() {
        let latent = ImageShape { channels: 4, height: 3, width: 5 };
        let image = DecoderConfig::Kl(kl()).image_shape(latent).unwrap();
        assert_eq!(image, ImageShape { channels: 3, height: 6, width: 10 });
        let image = DecoderConfig::Taef2.image_shape(ImageShape { channels: 32, ..latent }).unwrap();
        assert_eq!((image.height, image.width), (24, 40));
        let error = DecoderConfig::Taef2.image_shape(latent).unwrap_err().to_string();
        assert_eq!(error, "decoder.latent: latents of 4 channels, the decoder reads 32");
        let vast = ImageShape { height: usize::MAX / 2, ..latent };
        assert!(DecoderConfig::Kl(kl()).image_shape(vast).is_err());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let key = |config| DecoderConfig::Kl(config).validate().unwrap_err().key;
        assert_eq!(key(KlDecoder { widths: vec![], ..kl() }), "widths");
        assert_eq!(key(KlDecoder { widths: vec![6], ..kl() }), "widths");
        assert_eq!(key(KlDecoder { groups: 0, ..kl() }), "widths");
        assert_eq!(key(KlDecoder { scale: f64::NAN, ..kl() }), "scale");
        DecoderConfig::Kl(kl()).validate().unwrap();
    }

    #[test]
    fn json_brings_it_back() {
        for config in [DecoderConfig::Kl(kl()), DecoderConfig::Taef2] {
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<DecoderConfig>(&json).unwrap(), config, "{json}");
        }
    }
}
