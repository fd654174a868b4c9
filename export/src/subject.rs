//! What is exported: a generator, the decoder of its latents, or one of the networks around them.

use std::collections::BTreeMap;

use candle_core::Tensor;
use drifting_models::autoencoder::Decoder;
use drifting_models::{Generator, Mae};
use drifting_spec::{ImageShape, Inputs, Manifest, NetworkConfig, Pixels, names, pixels};

use crate::lower::DECODER;
use crate::{Error, Result};

/// The networks of an [`ImageModel`] that an export drops when it needs them no more.
#[derive(Debug)]
pub struct OwnedModel {
    /// Makes images, or latents.
    pub generator: Generator,
    /// Makes images of latents.
    pub decoder: Option<Decoder>,
}

impl OwnedModel {
    /// The networks.
    #[must_use]
    pub fn model(&self) -> ImageModel<'_> {
        ImageModel { generator: &self.generator, decoder: self.decoder.as_ref() }
    }
}

impl From<Generator> for OwnedModel {
    fn from(generator: Generator) -> Self {
        Self { generator, decoder: None }
    }
}

/// A generator, and the decoder that makes images of its latents.
#[derive(Clone, Copy, Debug)]
pub struct ImageModel<'a> {
    /// Makes images, or latents.
    pub generator: &'a Generator,
    /// Makes images of latents.
    pub decoder: Option<&'a Decoder>,
}

impl<'a> From<&'a Generator> for ImageModel<'a> {
    fn from(generator: &'a Generator) -> Self {
        Self { generator, decoder: None }
    }
}

impl ImageModel<'_> {
    /// `manifest` for the file of these networks: with the decoder, and with an output made of `pixels`.
    #[must_use]
    pub fn manifest(&self, manifest: Manifest, pixels: Pixels) -> Manifest {
        Self::manifest_with(manifest, self.decoder, pixels)
    }

    /// `manifest` for the file of a generator and this decoder, whose output is made of `pixels`.
    #[must_use]
    pub fn manifest_with(manifest: Manifest, decoder: Option<&Decoder>, pixels: Pixels) -> Manifest {
        let decoder = decoder.map(|decoder| drifting_spec::Decoder {
            config: decoder.config().clone(),
            weights_sha256: decoder.sha256().to_owned(),
        });
        Manifest { decoder, pixels, ..manifest }
    }

    /// The parameters under the names that they have in the file.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut tensors = self.generator.params().tensors();
        let named = |(name, tensor): (&String, &Tensor)| (format!("{DECODER}.{name}"), tensor.clone());
        tensors.extend(self.decoder.into_iter().flat_map(Decoder::tensors).map(named));
        tensors
    }

    /// Refuses a manifest of other networks.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<()> {
        let differ = |manifest: String, network: String| Err(Error::OtherNetwork { manifest, network });
        if manifest.generator != *self.generator.config() {
            return differ(format!("{:?}", manifest.generator), format!("{:?}", self.generator.config()));
        }
        let (named, own) =
            (manifest.decoder.as_ref().map(|decoder| &decoder.config), self.decoder.map(Decoder::config));
        if named == own { Ok(()) } else { differ(format!("{named:?}"), format!("{own:?}")) }
    }

    /// The images of a batch as the file that `manifest` describes should give them.
    pub(crate) fn run(&self, manifest: &Manifest, inputs: &Inputs) -> Result<Tensor> {
        let latents = self.generator.run(inputs)?;
        let images = self.decoder.map_or_else(|| Ok(latents.clone()), |decoder| decoder.decode(&latents))?;
        finished(&images, manifest.pixels, manifest.value_range)
    }
}

/// Images in [black, white], or their levels.
fn finished(images: &Tensor, kind: Pixels, range: [f32; 2]) -> Result<Tensor> {
    if kind.is_float() {
        return Ok(images.clone());
    }
    let levels = images.flatten_all()?.to_vec1::<f32>()?.into_iter().map(|value| pixels::level(range, value));
    Ok(Tensor::from_vec(levels.collect::<Vec<f32>>(), images.dims(), images.device())?)
}

/// A network of one input.
#[derive(Clone, Copy, Debug)]
pub enum Network<'a> {
    /// Latents to images.
    Decoder {
        /// The network.
        decoder: &'a Decoder,
        /// Shape of the latents.
        latent: ImageShape,
        /// What the image is made of.
        pixels: Pixels,
    },
    /// Images, or latents, to feature maps; built with [`Mae::new`].
    Encoder(&'a Mae),
}

impl Network<'_> {
    /// The architecture.
    #[must_use]
    pub fn config(&self) -> NetworkConfig {
        match *self {
            Self::Decoder { decoder, latent, pixels } => {
                NetworkConfig::Decoder { decoder: decoder.config().clone(), latent, pixels }
            }
            Self::Encoder(mae) => NetworkConfig::Encoder(mae.config().clone()),
        }
    }

    /// The parameters under the names that they have in the file.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        match self {
            Self::Decoder { decoder, .. } => decoder.tensors().clone(),
            Self::Encoder(mae) => {
                let tensors = mae.params().tensors();
                tensors.into_iter().filter(|(name, _)| name.starts_with("encoder.")).collect()
            }
        }
    }

    /// The outputs of a batch `[batch, channels, height, width]` by name, as the file should give them.
    pub(crate) fn run(&self, input: &Tensor) -> Result<Vec<(String, Tensor)>> {
        match self {
            Self::Decoder { decoder, pixels, .. } => {
                let image = finished(&decoder.decode(input)?, *pixels, [-1.0, 1.0])?;
                Ok(vec![(names::IMAGE.to_owned(), image)])
            }
            Self::Encoder(mae) => Ok(mae.encode(input)?.into_iter().map(|map| (map.name, map.map)).collect()),
        }
    }
}
