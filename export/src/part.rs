//! Encoders and decoders from their weight files.

use std::path::Path;

use candle_core::Device;
use drifting_models::Mae;
use drifting_models::autoencoder::Decoder;
use drifting_models::nn::Source;
use drifting_models::weights::MaeFile;
use drifting_spec::{ImageShape, NetworkManifest, Pixels, Provenance};

use crate::{Network, Result};

/// A network that was read from its weight file, and the manifest for its own.
#[derive(Debug)]
pub struct Part {
    kind: Kind,
    /// What the exported file says about itself.
    pub manifest: NetworkManifest,
}

#[derive(Debug)]
enum Kind {
    Decoder { decoder: Decoder, latent: ImageShape, pixels: Pixels },
    Encoder(Box<Mae>),
}

impl Part {
    /// The encoder of a masked autoencoder's weight file.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn encoder(path: &Path) -> Result<Self> {
        let file = MaeFile::read(path, &Device::Cpu)?;
        let step = file.metadata.get("step").and_then(|step| step.parse().ok()).unwrap_or_default();
        let mae = Mae::new(file.config, Source::Tensors(file.tensors), &Device::Cpu)?;
        Ok(Self::new(Kind::Encoder(Box::new(mae)), name(path), provenance(step, file.sha256)))
    }

    /// The decoder at `path` for images of this height and width, made of `pixels`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it; sides that no latent has.
    pub fn decoder(path: &Path, (height, width): (usize, usize), pixels: Pixels) -> Result<Self> {
        let decoder = Decoder::open(path)?;
        let side = decoder.config().reduction();
        if !height.is_multiple_of(side) || !width.is_multiple_of(side) {
            let problem = format!("images of {height}x{width}: the decoder's sides are multiples of {side}");
            return Err(drifting_models::Error::Input { problem }.into());
        }
        let (channels, _) = decoder.config().channels();
        let latent = ImageShape { channels, height: height / side, width: width / side };
        let mut part = Self::behind(decoder, latent, pixels);
        part.manifest.name = name(path);
        Ok(part)
    }

    /// The decoder of a generator whose latents have this shape.
    #[must_use]
    pub fn behind(decoder: Decoder, latent: ImageShape, pixels: Pixels) -> Self {
        let (name, provenance) = (decoder.config().name().to_owned(), provenance(0, decoder.sha256().to_owned()));
        Self::new(Kind::Decoder { decoder, latent, pixels }, name, provenance)
    }

    fn new(kind: Kind, name: String, provenance: Provenance) -> Self {
        let config = kind.network().config();
        Self { kind, manifest: NetworkManifest::new(name, config, provenance) }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> Network<'_> {
        self.kind.network()
    }
}

impl Kind {
    fn network(&self) -> Network<'_> {
        match self {
            Self::Decoder { decoder, latent, pixels } => Network::Decoder { decoder, latent: *latent, pixels: *pixels },
            Self::Encoder(mae) => Network::Encoder(mae),
        }
    }
}

fn name(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn provenance(step: u64, weights_sha256: String) -> Provenance {
    Provenance { step, weights_sha256, tool_version: env!("CARGO_PKG_VERSION").to_owned(), ..Provenance::default() }
}
