//! An encoder of images behind the decoder of an autoencoder, for generators of latents (paper A.4).

use std::sync::Arc;

use candle_core::Tensor;
use drifting_models::autoencoder::Autoencoder;

use super::{Encoder, FeatureError, MapInfo};

/// Latents are decoded first; gradients go through encoder and decoder.
#[derive(Debug)]
pub struct Decoded {
    autoencoder: Arc<dyn Autoencoder>,
    encoder: Box<dyn Encoder>,
}

impl Decoded {
    /// `encoder` on what `autoencoder` decodes.
    #[must_use]
    pub fn new(autoencoder: Arc<dyn Autoencoder>, encoder: Box<dyn Encoder>) -> Self {
        Self { autoencoder, encoder }
    }
}

impl Encoder for Decoded {
    fn maps(&self) -> &[MapInfo] {
        self.encoder.maps()
    }

    fn encode(&self, images: &Tensor) -> Result<Vec<Tensor>, FeatureError> {
        self.encoder.encode(&self.autoencoder.decode(images)?)
    }

    fn weight_files(&self) -> Vec<(String, String)> {
        let decoder = (self.autoencoder.name().to_owned(), self.autoencoder.sha256().to_owned());
        self.encoder.weight_files().into_iter().chain([decoder]).collect()
    }
}
