//! `config.json` of an `AutoencoderKL`.

use std::path::Path;

use drifting_spec::KlDecoder;
use serde::Deserialize;

use crate::weights::read_bytes;
use crate::{Error, Result};

/// The architecture of an `AutoencoderKL` as its `config.json` says it; missing entries take the library's defaults.
/// Entries that do not change what is computed are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct AutoencoderKlConfig {
    /// Channels of the images that are read.
    #[serde(default = "defaults::image_channels")]
    pub in_channels: usize,
    /// Channels of the images that are written.
    #[serde(default = "defaults::image_channels")]
    pub out_channels: usize,
    /// Channels of a latent.
    #[serde(default = "defaults::latent_channels")]
    pub latent_channels: usize,
    /// Width of each stage, from the image inwards; sides are halved between two.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of an encoder's stage; a decoder's has one more.
    #[serde(default = "defaults::one")]
    pub layers_per_block: usize,
    /// Groups of every normalisation.
    #[serde(default = "defaults::groups")]
    pub norm_num_groups: usize,
    /// The generator's latent is the encoder's times this.
    #[serde(default = "defaults::scale")]
    pub scaling_factor: f64,
    /// Subtracted from the encoder's latent before it is scaled.
    #[serde(default)]
    pub shift_factor: Option<f64>,
    /// Whether a 1x1 convolution follows the encoder.
    #[serde(default = "defaults::yes")]
    pub use_quant_conv: bool,
    /// Whether a 1x1 convolution precedes the decoder.
    #[serde(default = "defaults::yes")]
    pub use_post_quant_conv: bool,
    /// Whether the innermost blocks attend over all positions.
    #[serde(default = "defaults::yes")]
    pub mid_block_add_attention: bool,
    #[serde(default = "defaults::silu")]
    act_fn: String,
    #[serde(default)]
    down_block_types: Vec<String>,
    #[serde(default)]
    up_block_types: Vec<String>,
    #[serde(default)]
    latents_mean: Option<Vec<f64>>,
    #[serde(default)]
    latents_std: Option<Vec<f64>>,
}

mod defaults {
    pub(super) fn image_channels() -> usize {
        3
    }
    pub(super) fn latent_channels() -> usize {
        4
    }
    pub(super) fn one() -> usize {
        1
    }
    pub(super) fn groups() -> usize {
        32
    }
    pub(super) fn scale() -> f64 {
        0.18215
    }
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn silu() -> String {
        "silu".to_owned()
    }
}

impl AutoencoderKlConfig {
    /// The autoencoder of Stable Diffusion 1 and 2: 4 latent channels, sides reduced 8 times.
    #[must_use]
    pub fn stable_diffusion() -> Self {
        Self {
            in_channels: defaults::image_channels(),
            out_channels: defaults::image_channels(),
            latent_channels: defaults::latent_channels(),
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            norm_num_groups: defaults::groups(),
            scaling_factor: defaults::scale(),
            shift_factor: None,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
            act_fn: defaults::silu(),
            down_block_types: Vec::new(),
            up_block_types: Vec::new(),
            latents_mean: None,
            latents_std: None,
        }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// Names the file, and the entry that asks for what is not there.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_bytes(path)?;
        let file = |problem: String| Error::File { path: path.to_owned(), problem };
        let config: Self = serde_json::from_slice(&bytes).map_err(|error| file(error.to_string()))?;
        config.check().map_err(file)?;
        Ok(config)
    }

    /// The decoding half.
    #[must_use]
    pub fn decoder(&self) -> KlDecoder {
        KlDecoder {
            image_channels: self.out_channels,
            latent_channels: self.latent_channels,
            widths: self.block_out_channels.clone(),
            blocks: self.layers_per_block + 1,
            groups: self.norm_num_groups,
            scale: self.scaling_factor,
            shift: self.shift_factor.unwrap_or(0.0),
            post_quant_conv: self.use_post_quant_conv,
            attention: self.mid_block_add_attention,
        }
    }

    /// Says what does not fit.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let widths = &self.block_out_channels;
        if widths.is_empty() || widths.len() > 8 {
            return Err(format!("block_out_channels: {} stages, expected 1 to 8", widths.len()));
        }
        let sizes = [self.in_channels, self.out_channels, self.latent_channels, self.layers_per_block];
        let whole = |value: &usize| (1..=1 << 16).contains(value);
        if !sizes.iter().chain(widths).chain([&self.norm_num_groups]).all(whole) {
            return Err("channels, layers and groups must lie between 1 and 65536".to_owned());
        }
        if self.in_channels != self.out_channels {
            return Err(format!("in_channels {} and out_channels {} differ", self.in_channels, self.out_channels));
        }
        if let Some(width) = widths.iter().find(|width| !width.is_multiple_of(self.norm_num_groups)) {
            return Err(format!("block_out_channels: {width} is no multiple of {} groups", self.norm_num_groups));
        }
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0) {
            return Err(format!("scaling_factor: {} is not a positive number", self.scaling_factor));
        }
        if self.act_fn != "silu" {
            return Err(format!("act_fn: {} is not known, silu is", self.act_fn));
        }
        for (types, known) in
            [(&self.down_block_types, "DownEncoderBlock2D"), (&self.up_block_types, "UpDecoderBlock2D")]
        {
            if let Some(other) = types.iter().find(|kind| *kind != known) {
                return Err(format!("blocks of type {other} are not known, {known} is"));
            }
        }
        if self.latents_mean.is_some() || self.latents_std.is_some() {
            return Err("latents_mean and latents_std are not known, scaling_factor is".to_owned());
        }
        Ok(())
    }
}
