//! Images that become latents after they were cropped and mirrored, draw by draw.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use drifting_models::autoencoder::Autoencoder;
use drifting_spec::{ImageShape, Stream};

use super::{DataError, Result};

/// Images that go through the autoencoder at once: memory is that of so many.
const AT_ONCE: usize = 16;

/// An autoencoder between the images of a source and a network that sees latents (method section 7.2).
#[derive(Clone, Debug)]
pub struct Encoding {
    autoencoder: Arc<dyn Autoencoder>,
    image: ImageShape,
    latent: ImageShape,
    seed: u64,
}

impl Encoding {
    /// Latents of shape `latent`; `seed` is that of the posterior's noise.
    ///
    /// # Errors
    /// An autoencoder with latents of other channels.
    pub fn new(autoencoder: Arc<dyn Autoencoder>, latent: ImageShape, seed: u64) -> Result<Self> {
        let image = autoencoder.image_shape(latent)?;
        Ok(Self { autoencoder, image, latent, seed })
    }

    /// Shape of the images that are encoded.
    #[must_use]
    pub fn image(&self) -> ImageShape {
        self.image
    }

    /// Shape of their latents.
    #[must_use]
    pub fn latent(&self) -> ImageShape {
        self.latent
    }

    /// Name and SHA-256 of the autoencoder.
    #[must_use]
    pub fn weights(&self) -> (String, String) {
        (self.autoencoder.name().to_owned(), self.autoencoder.sha256().to_owned())
    }

    /// The latents `[n, c, h / r, w / r]` of images `[n, 3, h, w]`: samples of the posterior, whose noise is a function of the
    /// seed and the number of each draw, so that they depend neither on the batch nor on the threads.
    ///
    /// # Errors
    /// Images of another shape; latents that are not finite.
    pub fn encode(&self, images: &[f32], draws: &[u64]) -> Result<Vec<f32>> {
        let ImageShape { channels, height, width } = self.image;
        let mut latents = Vec::with_capacity(draws.len() * self.latent.len());
        for (images, draws) in images.chunks(AT_ONCE * self.image.len()).zip(draws.chunks(AT_ONCE)) {
            let images = Tensor::from_slice(images, (draws.len(), channels, height, width), &Device::Cpu)?;
            let stream = |&draw: &u64| Stream::new(self.seed, "data.posterior", draw);
            let mut streams: Vec<Stream> = draws.iter().map(stream).collect();
            let found = self.autoencoder.sample(&images, &mut streams)?.detach();
            latents.extend(found.flatten_all()?.to_vec1::<f32>()?);
        }
        match latents.iter().all(|number| number.is_finite()) {
            true => Ok(latents),
            false => Err(DataError::Inconsistent("the autoencoder made a number that is not finite".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{
        Augment, Crop, DataSource, DirectBatches, Images, LabelledBatches, PathSource, open_autoencoder,
    };
    use super::*;
    use crate::config::LoaderSettings;

    fn encoding(seed: u64) -> Encoding {
        let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        let golden = std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from);
        let latent = ImageShape { channels: 4, height: 8, width: 8 };
        Encoding::new(open_autoencoder(&golden.join("vae")).unwrap().into(), latent, seed).unwrap()
    }

    #[test]
    fn a_latent_does_not_depend_on_its_batch() {
        let encoding = encoding(3);
        assert_eq!(encoding.image(), ImageShape { channels: 3, height: 16, width: 16 });
        let count = AT_ONCE + 2;
        let images = Stream::new(1, "test.images", 0).normals(count * encoding.image().len());
        let draws: Vec<u64> = (7..7 + count as u64).collect();
        let all = encoding.encode(&images, &draws).unwrap();
        assert_eq!(all.len(), count * 4 * 64);
        let last = encoding.encode(&images[(count - 1) * 768..], &draws[count - 1..]).unwrap();
        let largest = all[(count - 1) * 256..].iter().zip(&last).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-5, "{largest}");
        let other = encoding.encode(&images[(count - 1) * 768..], &draws[..1]).unwrap();
        assert!(other.iter().zip(&last).any(|(a, b)| (a - b).abs() > 1e-3), "another draw has other noise");
        let wrong = ImageShape { channels: 3, height: 8, width: 8 };
        assert!(Encoding::new(Arc::clone(&encoding.autoencoder), wrong, 1).is_err());
    }

    #[test]
    fn batches_are_cropped_and_encoded_as_they_are_drawn() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            std::fs::create_dir(folder.path().join(class)).unwrap();
            for number in 0..3u8 {
                let level = |x: u32, y: u32| image::Rgb([(x * 11) as u8, (y * 9) as u8, number * 80]);
                let path = folder.path().join(class).join(format!("{number}.png"));
                image::RgbImage::from_fn(24, 20, level).save(path).unwrap();
            }
        }
        let source = PathSource { path: folder.path().into(), ..PathSource::default() };
        let augment = Augment { crop: Crop::Random, flip: true, ..Augment::default() };
        let encoding = encoding(5);
        let images = || {
            let (source, _) = DataSource::Path(source.clone()).open_source(encoding.image(), &augment).unwrap();
            Arc::new(Images::new(source, encoding.image(), augment, 5).unwrap())
        };
        let batches = |workers| {
            let loader = LoaderSettings { workers: Some(workers), ahead: 2 };
            DirectBatches::of(images(), loader, 5).encoded(encoding.clone())
        };
        let mut encoded = batches(2);
        assert_eq!((encoded.info().shape, encoded.info().images), (encoding.latent(), 6));
        let mut plain = DirectBatches::of(images(), LoaderSettings::default(), 5);
        for step in 0..4 {
            let (found, pixels) = (encoded.next(step, 4).unwrap(), plain.next(step, 4).unwrap());
            let draws: Vec<u64> = (step * 4..step * 4 + 4).collect();
            let expected = encoding.encode(&pixels.images, &draws).unwrap();
            assert_eq!((found.images, found.labels, found.ids), (expected, pixels.labels, pixels.ids));
        }
        assert_eq!(batches(0).next(3, 4).unwrap(), batches(3).next(3, 4).unwrap());
    }
}
