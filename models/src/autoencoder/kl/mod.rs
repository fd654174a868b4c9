//! The autoencoder of Stable Diffusion (`AutoencoderKL`), from its published files.
//!
//! Ours, not candle-transformers': that one hides mean and variance, draws its noise from a generator without a seed and
//! leaves the variance without limits.

mod blocks;
mod config;
mod decoder;
mod encoder;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use drifting_spec::{ImageShape, Stream};

pub use self::config::AutoencoderKlConfig;
pub(super) use self::decoder::Decoder;
use self::encoder::Encoder;
use super::{Autoencoder, Reduction};
use crate::nn::frozen::{channels_first, channels_last};
use crate::nn::{Builder, Source};
use crate::weights;
use crate::{Error, Result};

pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// An `AutoencoderKL`: images to normal distributions over latents, and back.
#[derive(Clone, Debug)]
pub struct AutoencoderKl {
    config: AutoencoderKlConfig,
    encoder: Encoder,
    decoder: Decoder,
    sha256: String,
}

/// Independent normal distributions over the numbers of latents, unscaled.
#[derive(Clone, Debug)]
pub struct Posterior {
    /// `[n, channels, height, width]`.
    pub mean: Tensor,
    /// Logarithm of the variance, within [-30, 20]; `[n, channels, height, width]`.
    pub logvar: Tensor,
}

impl Posterior {
    /// mean + deviation * noise, for standard normal noise of the mean's shape.
    ///
    /// # Errors
    /// Noise of another shape.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        Ok((&self.mean + (self.logvar.affine(0.5, 0.0)?.exp()? * noise)?)?)
    }
}

impl AutoencoderKl {
    /// From tensors under their published names, or with made-up weights.
    ///
    /// # Errors
    /// A configuration that contradicts itself; tensors that are missing, left over, of another shape or not finite.
    pub fn new(config: AutoencoderKlConfig, source: Source, device: &Device) -> Result<Self> {
        Self::build(config, Builder::frozen(source, device))
    }

    /// Reads `config.json` and `diffusion_pytorch_model.safetensors` of `folder`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(folder: &Path, device: &Device) -> Result<Self> {
        let config = AutoencoderKlConfig::read(&folder.join(CONFIG))?;
        let path = folder.join(WEIGHTS);
        let file = weights::read(&path, device)?;
        let tensors = file.tensors.into_iter().map(|(name, tensor)| (current_name(&name), tensor)).collect();
        let model = Self::new(config, Source::Tensors(tensors), device).map_err(|error| error.of_file(&path))?;
        Ok(Self { sha256: file.sha256, ..model })
    }

    fn build(config: AutoencoderKlConfig, builder: Builder) -> Result<Self> {
        config.check().map_err(|problem| Error::Input { problem: format!("autoencoder: {problem}") })?;
        let (encoder, decoder) = (Encoder::new(&builder, &config)?, Decoder::new(&builder, &config.decoder())?);
        builder.finish()?;
        Ok(Self { config, encoder, decoder, sha256: String::new() })
    }

    /// Names and shapes of all tensors of an autoencoder, without its numbers.
    ///
    /// # Errors
    /// A configuration that contradicts itself.
    pub fn shapes(config: AutoencoderKlConfig) -> Result<BTreeMap<String, Vec<usize>>> {
        let builder = Builder::counting();
        Self::build(config, builder.clone())?;
        Ok(builder.shapes())
    }

    /// The architecture.
    #[must_use]
    pub fn config(&self) -> &AutoencoderKlConfig {
        &self.config
    }

    /// The distributions of the latents of images `[n, channels, height, width]` in [-1, 1].
    ///
    /// # Errors
    /// Images that [`latent_shape`](Autoencoder::latent_shape) refuses.
    pub fn posterior(&self, images: &Tensor) -> Result<Posterior> {
        self.reduction().check(images)?;
        let moments = channels_first(&self.encoder.forward(&channels_last(images)?)?)?;
        let channels = self.config.latent_channels;
        let (mean, logvar) = (moments.narrow(1, 0, channels)?, moments.narrow(1, channels, channels)?);
        Ok(Posterior { mean: mean.contiguous()?, logvar: logvar.contiguous()?.clamp(-30f32, 20f32)? })
    }

    /// The images of unscaled latents `[n, channels, height, width]`.
    ///
    /// # Errors
    /// Latents of other channels.
    pub fn decode_unscaled(&self, latents: &Tensor) -> Result<Tensor> {
        channels_first(&self.decoder.forward(&channels_last(latents)?)?)
    }

    /// (x - shift) * scale.
    fn scaled(&self, latents: &Tensor) -> Result<Tensor> {
        let scale = self.config.scaling_factor;
        Ok(latents.affine(scale, -self.config.shift_factor.unwrap_or(0.0) * scale)?)
    }

    fn reduction(&self) -> Reduction {
        let AutoencoderKlConfig { in_channels, latent_channels, block_out_channels, .. } = &self.config;
        let side = 1 << (block_out_channels.len() - 1);
        Reduction { image_channels: *in_channels, latent_channels: *latent_channels, side }
    }
}

impl Autoencoder for AutoencoderKl {
    fn name(&self) -> &'static str {
        "autoencoder-kl"
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }

    fn encode(&self, images: &Tensor) -> Result<Tensor> {
        self.scaled(&self.posterior(images)?.mean)
    }

    fn sample(&self, images: &Tensor, streams: &mut [Stream]) -> Result<Tensor> {
        let posterior = self.posterior(images)?;
        let (n, channels, height, width) = posterior.mean.dims4()?;
        if streams.len() != n {
            return Err(Error::Input { problem: format!("autoencoder: {} streams for {n} images", streams.len()) });
        }
        let noise: Vec<f32> = streams.iter_mut().flat_map(|stream| stream.normals(channels * height * width)).collect();
        let noise = Tensor::from_vec(noise, posterior.mean.shape(), images.device())?;
        self.scaled(&posterior.sample(&noise)?)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        self.decode_unscaled(
            &latents.affine(1.0 / self.config.scaling_factor, self.config.shift_factor.unwrap_or(0.0))?,
        )
    }

    fn latent_shape(&self, image: ImageShape) -> Result<ImageShape> {
        self.reduction().latent(image)
    }

    fn image_shape(&self, latent: ImageShape) -> Result<ImageShape> {
        self.reduction().image(latent)
    }
}

/// The tensors of the decoding half, under their current names.
pub(super) fn decoder_tensors(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let own = |name: &String| name.starts_with("decoder.") || name.starts_with("post_quant_conv.");
    let tensors = tensors.into_iter().map(|(name, tensor)| (current_name(&name), tensor));
    tensors.filter(|(name, _)| own(name)).collect()
}

/// Files older than 2023 call the parts of the attention otherwise.
fn current_name(name: &str) -> String {
    const RENAMED: [(&str, &str); 4] =
        [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];
    for (old, new) in RENAMED {
        if let Some((before, after)) = name.split_once(&format!("mid_block.attentions.0.{old}.")) {
            return format!("{before}mid_block.attentions.0.{new}.{after}");
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests;
