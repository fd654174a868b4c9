//! The decoding half of an autoencoder alone, with the tensors it was made of: what goes behind a generator of latents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use drifting_spec::DecoderConfig;

use super::{kl, taef2};
use crate::nn::frozen::{channels_first, channels_last};
use crate::nn::{Builder, Source};
use crate::weights;
use crate::{Error, Result};

/// A decoder with fixed weights, on the CPU.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: DecoderConfig,
    network: Network,
    tensors: BTreeMap<String, Tensor>,
    sha256: String,
}

#[derive(Clone, Debug)]
enum Network {
    /// With the scale and the shift of its latents.
    Kl(Box<kl::Decoder>, (f64, f64)),
    Taef2(Vec<taef2::Layer>),
}

impl Decoder {
    /// From tensors under their published names.
    ///
    /// # Errors
    /// A configuration that contradicts itself; tensors that are missing, left over, of another shape or not finite.
    pub fn new(config: DecoderConfig, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        config.validate()?;
        let float = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_dtype(DType::F32)?));
        let tensors: BTreeMap<_, _> = tensors.into_iter().map(float).collect::<Result<_>>()?;
        let builder = Builder::frozen(Source::Tensors(tensors.clone()), &Device::Cpu);
        let network = build(&config, &builder)?;
        builder.finish()?;
        Ok(Self { config, network, tensors, sha256: String::new() })
    }

    /// Reads the decoder of `path`: a folder that [`open`](super::open) reads, or a file with the decoder of TAEF2. The hash
    /// is that of the file with the decoder's weights.
    ///
    /// # Errors
    /// Neither is there; a file that cannot be read or does not fit, by name.
    pub fn open(path: &Path) -> Result<Self> {
        let (config, file) = find(path)?;
        let read = weights::read(&file, &Device::Cpu)?;
        let tensors = match config {
            DecoderConfig::Kl(_) => kl::decoder_tensors(read.tensors),
            DecoderConfig::Taef2 => read.tensors,
        };
        let decoder = Self::new(config, tensors).map_err(|error| error.of_file(&file))?;
        Ok(Self { sha256: read.sha256, ..decoder })
    }

    /// Names and shapes of all tensors of a decoder, without its numbers.
    ///
    /// # Errors
    /// A configuration that contradicts itself.
    pub fn shapes(config: &DecoderConfig) -> Result<BTreeMap<String, Vec<usize>>> {
        config.validate()?;
        let builder = Builder::counting();
        build(config, &builder)?;
        Ok(builder.shapes())
    }

    /// The architecture.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The weights (f32) under their published names.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// SHA-256 of the weights file in hexadecimal; empty when they were not read from one.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The images of latents `[n, channels, height, width]`, scaled as the generator makes them: `[n, channels, r height, r
    /// width]` around [-1, 1].
    ///
    /// # Errors
    /// Latents of other channels.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        match &self.network {
            Network::Kl(network, (scale, shift)) => {
                let latents = latents.affine(1.0 / scale, *shift)?;
                channels_first(&network.forward(&channels_last(&latents)?)?)
            }
            Network::Taef2(layers) => taef2::decode(layers, latents),
        }
    }
}

fn build(config: &DecoderConfig, builder: &Builder) -> Result<Network> {
    Ok(match config {
        DecoderConfig::Kl(config) => {
            Network::Kl(Box::new(kl::Decoder::new(builder, config)?), (config.scale, config.shift))
        }
        DecoderConfig::Taef2 => Network::Taef2(taef2::decoder(builder)?),
    })
}

/// Architecture and weights file of the decoder at `path`.
fn find(path: &Path) -> Result<(DecoderConfig, PathBuf)> {
    if path.is_file() {
        return Ok((DecoderConfig::Taef2, path.to_owned()));
    }
    let (kl, taef2) = (path.join(kl::WEIGHTS), path.join(taef2::DECODER));
    if kl.exists() {
        let config = kl::AutoencoderKlConfig::read(&path.join(kl::CONFIG))?;
        return Ok((DecoderConfig::Kl(config.decoder()), kl));
    }
    if taef2.exists() {
        return Ok((DecoderConfig::Taef2, taef2));
    }
    let problem = format!(
        "holds no decoder: expected {} and {} (AutoencoderKL), or {} (TAEF2)",
        kl::CONFIG,
        kl::WEIGHTS,
        taef2::DECODER
    );
    Err(Error::File { path: path.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_decoder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = Decoder::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("holds no decoder") && message.contains("taef2_dec.safetensors"), "{message}");
        let file = folder.path().join("other.safetensors");
        weights::write(&file, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        let message = Decoder::open(&file).unwrap_err().to_string();
        assert!(message.contains("other.safetensors") && message.contains("1.weight is missing"), "{message}");
    }
}
