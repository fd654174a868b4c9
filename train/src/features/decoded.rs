//! Encoders of images behind the decoder of an autoencoder, for generators of latents (paper A.4).

use std::sync::Arc;

use candle_core::Tensor;
use drifting_models::autoencoder::Autoencoder;

use super::{Encoder, FeatureError, MapInfo};

/// Latents are decoded once for all encoders; gradients go through encoders and decoder.
#[derive(Debug)]
pub struct Decoded {
    autoencoder: Arc<dyn Autoencoder>,
    encoders: Vec<Box<dyn Encoder>>,
    maps: Vec<MapInfo>,
}

impl Decoded {
    /// `encoders` on what `autoencoder` decodes.
    #[must_use]
    pub fn new(autoencoder: Arc<dyn Autoencoder>, encoders: Vec<Box<dyn Encoder>>) -> Self {
        let maps = encoders.iter().flat_map(|encoder| encoder.maps()).cloned().collect();
        Self { autoencoder, encoders, maps }
    }
}

impl Encoder for Decoded {
    fn maps(&self) -> &[MapInfo] {
        &self.maps
    }

    fn encode(&self, images: &Tensor) -> Result<Vec<Tensor>, FeatureError> {
        let decoded = self.autoencoder.decode(images)?.contiguous()?;
        let maps = self.encoders.iter().map(|encoder| encoder.encode(&decoded));
        Ok(maps.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn weight_files(&self) -> Vec<(String, String)> {
        let decoder = (self.autoencoder.name().to_owned(), self.autoencoder.sha256().to_owned());
        self.encoders.iter().flat_map(|encoder| encoder.weight_files()).chain([decoder]).collect()
    }
}
