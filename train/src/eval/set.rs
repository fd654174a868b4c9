//! Sets of images that a network can look at, a batch at a time.

use candle_core::{Device, Tensor};
use drifting_models::Generator;
use drifting_models::autoencoder::Autoencoder;
use drifting_spec::{ImageShape, Inputs, Stream};

use super::{EvalError, Pixels, Result, Rounding};
use crate::data::Dataset;
use crate::run::pictures;

/// Images generated at once.
const GENERATED_AT_ONCE: usize = 100;

/// Images of one shape by number.
pub trait ImageSet {
    /// Shape of each image.
    fn shape(&self) -> ImageShape;

    /// Number of images.
    fn images(&self) -> usize;

    /// The class of an image, by its place in the names of the real images' classes; `None` where it is not known.
    fn label(&self, image: usize) -> Option<usize>;

    /// `count` images from number `first` on.
    ///
    /// # Errors
    /// Images that cannot be made or read.
    fn pixels(&mut self, first: usize, count: usize) -> Result<Pixels>;
}

/// Pixels of images of this shape, one image after another.
///
/// # Errors
/// Bytes of another number.
pub fn pixels(shape: ImageShape, bytes: Vec<u8>) -> Result<Pixels> {
    let ImageShape { channels, height, width } = shape;
    let count = bytes.len() / shape.len().max(1);
    Ok(Pixels { images: Tensor::from_vec(bytes, (count, channels, height, width), &Device::Cpu)? })
}

/// Images of a data set.
#[derive(Clone, Debug)]
pub struct RealImages<'a> {
    data: &'a Dataset,
    chosen: Option<Vec<usize>>,
}

impl<'a> RealImages<'a> {
    /// All of them.
    #[must_use]
    pub fn all(data: &'a Dataset) -> Self {
        Self { data, chosen: None }
    }

    /// At most `most` of them; which, follows from the seed.
    #[must_use]
    pub fn some(data: &'a Dataset, most: usize, seed: u64) -> Self {
        let choose = || {
            let mut chosen = Stream::new(seed, "eval.real", 0).choose(data.len(), most);
            chosen.sort_unstable();
            chosen
        };
        Self { data, chosen: (most < data.len()).then(choose) }
    }

    fn index(&self, image: usize) -> usize {
        self.chosen.as_ref().map_or(image, |chosen| chosen.get(image).copied().unwrap_or(usize::MAX))
    }
}

impl ImageSet for RealImages<'_> {
    fn shape(&self) -> ImageShape {
        self.data.shape()
    }

    fn images(&self) -> usize {
        self.chosen.as_ref().map_or(self.data.len(), Vec::len)
    }

    fn label(&self, image: usize) -> Option<usize> {
        self.data.labels().get(self.index(image)).copied()
    }

    fn pixels(&mut self, first: usize, count: usize) -> Result<Pixels> {
        let pictures = (first..first + count).filter_map(|image| self.data.picture(self.index(image)));
        pixels(self.shape(), pictures.flat_map(crate::data::Picture::into_planes).collect())
    }
}

/// Images that a generator draws: `per_class` of every class, class after class.
#[derive(Debug)]
pub struct GeneratedImages<'a> {
    /// The generator.
    pub generator: &'a Generator,
    /// Makes pictures of its latents.
    pub decoder: Option<&'a dyn Autoencoder>,
    /// Seed of noise and style.
    pub seed: u64,
    /// Guidance strength.
    pub alpha: f32,
    /// Images of each class.
    pub per_class: usize,
    /// The values of the generator, or of its decoder, that mean black and white.
    pub range: [f32; 2],
    /// How values become bytes.
    pub rounding: Rounding,
    /// Shape of the pictures.
    pub shape: ImageShape,
}

impl ImageSet for GeneratedImages<'_> {
    fn shape(&self) -> ImageShape {
        self.shape
    }

    fn images(&self) -> usize {
        self.per_class * self.generator.config().classes
    }

    fn label(&self, image: usize) -> Option<usize> {
        image.checked_div(self.per_class).filter(|class| *class < self.generator.config().classes)
    }

    fn pixels(&mut self, first: usize, count: usize) -> Result<Pixels> {
        let config = self.generator.config();
        let mut bytes = Vec::with_capacity(count * self.shape.len());
        let all: Vec<usize> = (first..first + count).collect();
        for part in all.chunks(GENERATED_AT_ONCE) {
            let mut inputs = Inputs::default();
            for &image in part {
                inputs.push_seeded(config, self.seed, image as u64, image / self.per_class.max(1), self.alpha);
            }
            let images = self.generator.run(&inputs)?.to_device(&Device::Cpu)?;
            let (numbers, _) =
                pictures(&images, config.image, self.decoder).map_err(|error| EvalError::Samples(error.to_string()))?;
            if let Some(at) = numbers.iter().position(|value| !value.is_finite()) {
                let image = part[0] + at / self.shape.len();
                return Err(EvalError::Samples(format!("generated image {image} holds NaN or infinite numbers")));
            }
            bytes.extend(numbers.into_iter().map(|value| self.rounding.level(self.range, value)));
        }
        pixels(self.shape, bytes)
    }
}
