//! Autoencoders between images and the latents that a generator may be trained on instead (paper section 5.2).

mod decoder;
mod kl;
mod taef2;

use std::fmt::Debug;
use std::path::Path;

use candle_core::{Device, Tensor};
use drifting_spec::{ImageShape, Stream};

pub use self::decoder::Decoder;
pub use self::kl::{AutoencoderKl, AutoencoderKlConfig, Posterior};
pub use self::taef2::Taef2;
use crate::{Error, Result};

/// An encoder and a decoder with fixed weights; gradients reach the inputs of both.
///
/// Images are `[n, 3, height, width]` in [-1, 1]; a decoded image may leave that range. Latents are `[n, channels, height /
/// r, width / r]`, scaled as the generator sees them.
pub trait Autoencoder: Debug + Send + Sync {
    /// What the autoencoder is called in manifests.
    fn name(&self) -> &'static str;

    /// SHA-256 of the weights in hexadecimal; empty when they were not read from a file.
    fn sha256(&self) -> &str;

    /// The latent of every image; the mean where the encoder gives a distribution.
    ///
    /// # Errors
    /// Images whose sides [`latent_shape`](Self::latent_shape) refuses, or of other channels.
    fn encode(&self, images: &Tensor) -> Result<Tensor>;

    /// As [`encode`](Self::encode), but drawn where the encoder gives a distribution: image i takes its noise from
    /// `streams[i]`, so that its latent does not depend on the batch.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); fewer streams than images.
    fn sample(&self, images: &Tensor, streams: &mut [Stream]) -> Result<Tensor>;

    /// The image of every latent.
    ///
    /// # Errors
    /// Latents of other channels.
    fn decode(&self, latents: &Tensor) -> Result<Tensor>;

    /// The shape of the latents of images of this shape.
    ///
    /// # Errors
    /// Other channels than the autoencoder's, and sides that are no multiple of its reduction.
    fn latent_shape(&self, image: ImageShape) -> Result<ImageShape>;

    /// The shape of the images of latents of this shape.
    ///
    /// # Errors
    /// Other channels than the autoencoder's.
    fn image_shape(&self, latent: ImageShape) -> Result<ImageShape>;
}

/// Reads an autoencoder from a folder: `config.json` and `diffusion_pytorch_model.safetensors` (an `AutoencoderKL`), or
/// `taef2_enc.safetensors` and `taef2_dec.safetensors`.
///
/// # Errors
/// Neither is there; a file that cannot be read or does not fit, by name.
pub fn open(folder: &Path, device: &Device) -> Result<Box<dyn Autoencoder>> {
    if folder.join(kl::WEIGHTS).exists() {
        return Ok(Box::new(AutoencoderKl::open(folder, device)?));
    }
    if folder.join(taef2::ENCODER).exists() {
        return Ok(Box::new(Taef2::open(folder, device)?));
    }
    let problem = format!(
        "holds no autoencoder: expected {} and {} (AutoencoderKL), or {} and {} (TAEF2)",
        kl::CONFIG,
        kl::WEIGHTS,
        taef2::ENCODER,
        taef2::DECODER
    );
    Err(Error::File { path: folder.to_owned(), problem })
}

/// What an autoencoder does to shapes.
#[derive(Clone, Copy, Debug)]
struct Reduction {
    image_channels: usize,
    latent_channels: usize,
    /// Pixels of an image's side to one of its latent's.
    side: usize,
}

impl Reduction {
    fn latent(&self, image: ImageShape) -> Result<ImageShape> {
        let ImageShape { channels, height, width } = image;
        expect_channels("an image", channels, self.image_channels)?;
        let side = self.side;
        if height == 0 || width == 0 || !height.is_multiple_of(side) || !width.is_multiple_of(side) {
            let problem = format!("autoencoder: sides of an image must be multiples of {side}, not {height}x{width}");
            return Err(Error::Input { problem });
        }
        Ok(ImageShape { channels: self.latent_channels, height: height / side, width: width / side })
    }

    fn image(&self, latent: ImageShape) -> Result<ImageShape> {
        expect_channels("a latent", latent.channels, self.latent_channels)?;
        let (height, width) = (latent.height * self.side, latent.width * self.side);
        Ok(ImageShape { channels: self.image_channels, height, width })
    }

    /// Checks a batch of images.
    fn check(&self, images: &Tensor) -> Result<()> {
        let (_, channels, height, width) = images.dims4()?;
        self.latent(ImageShape { channels, height, width }).map(|_| ())
    }
}

fn expect_channels(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Input { problem: format!("autoencoder: {what} of {found} channels, expected {expected}") })
}
