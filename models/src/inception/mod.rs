//! The Inception-V3 that the Fréchet Inception Distance is defined by (method section 13): weights `pt_inception-2015-12-05`
//! under the names of `pytorch-fid`; and torchvision's variant of it.

mod layers;
mod plan;
mod prepare;

use std::path::Path;

use candle_core::{Device, Tensor};

use self::layers::{AROUND, HALVE, Mixed, Unit, Window};
pub use self::prepare::Preparation;
use crate::Judgement;
use crate::nn::frozen::{Convolution, without_counters};
use crate::nn::{Builder, Source};
use crate::{Error, FeatureMap, Result, ops, weights};

/// Two networks of one plan. Their numbers are not comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// The graph of 2015-12-05, which FID is defined by: means leave out what lies outside of the image, the last block pools
    /// maxima, and there are 1008 classes.
    #[default]
    Fid,
    /// As torchvision has it: means count zeros outside of the image, the last block pools means, and there are 1000 classes.
    /// The weights of the auxiliary classifier (`AuxLogits`) are left out.
    Torchvision,
}

impl Variant {
    /// Number of classes.
    #[must_use]
    pub fn classes(self) -> usize {
        match self {
            Self::Fid => 1008,
            Self::Torchvision => 1000,
        }
    }

    /// What pools in blocks whose result is as large as the image.
    fn means(self) -> layers::Plan {
        layers::Plan::Means { outside: self == Self::Torchvision }
    }
}

/// The network; gradients reach the images.
#[derive(Clone, Debug)]
pub struct Inception {
    preparation: Preparation,
    stem: [Vec<Unit>; 2],
    mixed: [Vec<Mixed>; 2],
    classifier: Convolution,
    sha256: String,
}

impl Inception {
    /// Length of the features.
    pub const FEATURES: usize = 2048;

    /// From tensors under the names of `pytorch-fid` and torchvision; `num_batches_tracked` is left out.
    ///
    /// # Errors
    /// Tensors that are missing, left over, of another shape or not finite.
    pub fn new(variant: Variant, source: Source, preparation: Preparation, device: &Device) -> Result<Self> {
        let mut source = without_counters(source);
        if let (Variant::Torchvision, Source::Tensors(tensors)) = (variant, &mut source) {
            tensors.retain(|name, _| !name.starts_with("AuxLogits."));
        }
        let means = variant.means();
        let builder = Builder::frozen(source, device);
        let unit = |(name, inner, out, window): (&str, usize, usize, Window)| {
            Unit::new(&builder.part(name), inner, out, window)
        };
        let mixed =
            |(name, inner, plan): (&str, usize, Vec<Vec<layers::Plan>>)| Mixed::new(&builder.part(name), inner, &plan);
        let first = [
            ("Conv2d_1a_3x3", 3, 32, Window::Square(3, 2, 0)),
            ("Conv2d_2a_3x3", 32, 32, Window::Square(3, 1, 0)),
            ("Conv2d_2b_3x3", 32, 64, Window::Square(3, 1, 1)),
        ];
        let second =
            [("Conv2d_3b_1x1", 64, 80, Window::Square(1, 1, 0)), ("Conv2d_4a_3x3", 80, 192, Window::Square(3, 1, 0))];
        let third = [
            ("Mixed_5b", 192, plan::large(32, means)),
            ("Mixed_5c", 256, plan::large(64, means)),
            ("Mixed_5d", 288, plan::large(64, means)),
            ("Mixed_6a", 288, plan::large_to_middle()),
            ("Mixed_6b", 768, plan::middle(128, means)),
            ("Mixed_6c", 768, plan::middle(160, means)),
            ("Mixed_6d", 768, plan::middle(160, means)),
            ("Mixed_6e", 768, plan::middle(192, means)),
        ];
        let pool = match variant {
            Variant::Fid => layers::Plan::Maxima(AROUND),
            Variant::Torchvision => means,
        };
        let last = [
            ("Mixed_7a", 768, plan::middle_to_small()),
            ("Mixed_7b", 1280, plan::small(means)),
            ("Mixed_7c", Self::FEATURES, plan::small(pool)),
        ];
        let stem =
            [first.map(unit).into_iter().collect::<Result<_>>()?, second.map(unit).into_iter().collect::<Result<_>>()?];
        let mixed =
            [third.map(mixed).into_iter().collect::<Result<_>>()?, last.map(mixed).into_iter().collect::<Result<_>>()?];
        let classifier = Convolution::linear(&builder.part("fc"), Self::FEATURES, variant.classes())?;
        builder.finish()?;
        Ok(Self { preparation, stem, mixed, classifier, sha256: String::new() })
    }

    /// Reads the weights: PyTorch's file or safetensors.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(path: &Path, variant: Variant, preparation: Preparation, device: &Device) -> Result<Self> {
        let file = weights::read_published(path, device)?;
        let model = Self::new(variant, Source::Tensors(file.tensors), preparation, device);
        Ok(Self { sha256: file.sha256, ..model.map_err(|error| error.of_file(path))? })
    }

    /// SHA-256 of the weight file in hexadecimal; empty when the weights were not read from a file.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Four maps of images `[n, 3, h, w]` in [-1, 1]: `block0` (73 x 73 x 64) and `block1` (35 x 35 x 192) after the maxima,
    /// `block2` (17 x 17 x 768) and `block3` (8 x 8 x 2048).
    ///
    /// # Errors
    /// Images without three channels or without pixels.
    pub fn encode(&self, images: &Tensor) -> Result<Vec<FeatureMap>> {
        let (_, channels, height, width) = images.dims4()?;
        if channels != 3 || height == 0 || width == 0 {
            let problem = format!("Inception: images of {channels} channels, {height}x{width}; expected 3 channels");
            return Err(Error::Input { problem });
        }
        let mut x = self.preparation.apply(images)?;
        let mut maps = Vec::with_capacity(4);
        for units in &self.stem {
            x = units.iter().try_fold(x, |x, unit| unit.forward(&x))?;
            x = ops::max_pool(&x, HALVE)?;
            maps.push(x.clone());
        }
        for blocks in &self.mixed {
            x = blocks.iter().try_fold(x, |x, block| block.forward(&x))?;
            maps.push(x.clone());
        }
        Ok(maps.into_iter().enumerate().map(|(i, map)| FeatureMap { name: format!("block{i}"), map }).collect())
    }

    /// Features and logits of images `[n, 3, h, w]` in [-1, 1].
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn forward(&self, images: &Tensor) -> Result<Judgement> {
        let Some(last) = self.encode(images)?.pop() else {
            return Err(Error::Input { problem: "Inception: no map".to_owned() });
        };
        let pooled = last.map.mean_keepdim((1, 2))?;
        let logits = self.classifier.forward(&pooled)?;
        Ok(Judgement { features: pooled.flatten_from(1)?, logits: logits.flatten_from(1)? })
    }
}
