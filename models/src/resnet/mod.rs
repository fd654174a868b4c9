//! The CIFAR-10 ResNet-56 (He et al. 2015, section 4.2; weights `akamaster/pytorch_resnet_cifar10`, BSD-2-Clause): a judge
//! of small images.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};

use crate::Judgement;
use crate::nn::frozen::{Convolution, channels_last, folded, without_counters};
use crate::nn::{Builder, Source};
use crate::ops::Conv;
use crate::{Error, Result, weights};

/// Width and blocks of each stage; the second and the third halve the sides.
const STAGES: [(usize, usize); 3] = [(16, 9), (32, 9), (64, 9)];
const CLASSES: usize = 10;
/// PyTorch's default of batch normalisation.
const EPSILON: f64 = 1e-5;
/// Of each colour of pixels in [0, 1], as the published network was trained.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// A ResNet-56 for images of 10 classes. Batch normalisations are folded into the convolutions.
#[derive(Clone, Debug)]
pub struct Resnet56 {
    first: Convolution,
    blocks: Vec<Block>,
    classifier: Convolution,
    sha256: String,
}

impl Resnet56 {
    /// Length of the features.
    pub const FEATURES: usize = STAGES[2].0;
    /// Number of classes.
    pub const CLASSES: usize = CLASSES;

    /// From tensors under their published names.
    ///
    /// # Errors
    /// Tensors that are missing, left over, of another shape or not finite.
    pub fn new(source: Source, device: &Device) -> Result<Self> {
        let builder = Builder::frozen(without_counters(source), device);
        let first = convolution(&builder, "conv1", "bn1", [3, STAGES[0].0, 1])?;
        let mut blocks = Vec::new();
        let mut inner = STAGES[0].0;
        for (stage, (width, count)) in STAGES.into_iter().enumerate() {
            let builder = builder.part(&format!("layer{}", stage + 1));
            for block in 0..count {
                blocks.push(Block::new(&builder.part(&block.to_string()), inner, width)?);
                inner = width;
            }
        }
        let classifier = Convolution::linear(&builder.part("linear"), inner, CLASSES)?;
        builder.finish()?;
        Ok(Self { first, blocks, classifier, sha256: String::new() })
    }

    /// Reads the published weights (`resnet56-4bfd9763.th`), or the same tensors as safetensors.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let file = weights::read_published(path, device)?;
        // They were saved while spread over several devices.
        let plain = |name: String| name.strip_prefix("module.").map_or_else(|| name.clone(), str::to_owned);
        let tensors = file.tensors.into_iter().map(|(name, tensor)| (plain(name), tensor)).collect();
        let model = Self::new(Source::Tensors(tensors), device).map_err(|error| error.of_file(path))?;
        Ok(Self { sha256: file.sha256, ..model })
    }

    /// SHA-256 of the weight file in hexadecimal; empty when the weights were not read from a file.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Features and logits of images `[n, 3, h, w]` in [-1, 1]; the network was trained on 32 x 32. Gradients reach the
    /// images.
    ///
    /// # Errors
    /// Images without three channels.
    pub fn forward(&self, images: &Tensor) -> Result<Judgement> {
        let (_, channels, ..) = images.dims4()?;
        if channels != 3 {
            return Err(Error::Input { problem: format!("ResNet-56: images of {channels} channels, expected 3") });
        }
        let mut x = self.first.forward(&normalised(&channels_last(images)?)?)?.relu()?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let pooled = x.mean_keepdim((1, 2))?;
        let logits = self.classifier.forward(&pooled)?;
        Ok(Judgement { features: pooled.flatten_from(1)?, logits: logits.flatten_from(1)? })
    }
}

/// Images `[n, h, w, 3]` in [-1, 1] with the statistics that the network was trained on.
fn normalised(images: &Tensor) -> Result<Tensor> {
    let (mean, deviation) = (Tensor::new(&MEAN, images.device())?, Tensor::new(&DEVIATION, images.device())?);
    Ok(images.affine(0.5, 0.5)?.broadcast_sub(&mean)?.broadcast_div(&deviation)?)
}

/// ReLU(convolution(ReLU(convolution(x))) + skip(x)).
#[derive(Clone, Debug)]
struct Block {
    convolutions: [Convolution; 2],
    /// Where sides and channels change: every second pixel, between zero channels.
    skip: Option<Convolution>,
}

impl Block {
    fn new(builder: &Builder, inner: usize, out: usize) -> Result<Self> {
        let stride = if inner == out { 1 } else { 2 };
        let convolutions = [
            convolution(builder, "conv1", "bn1", [inner, out, stride])?,
            convolution(builder, "conv2", "bn2", [out, out, 1])?,
        ];
        let skip = || {
            let before = (out - inner) / 2;
            let eye = Tensor::eye(inner, DType::F32, builder.device())?;
            let weight = eye.pad_with_zeros(0, before, out - inner - before)?.unsqueeze(D::Minus1)?;
            Convolution::of(&weight.unsqueeze(D::Minus1)?, None, Conv::new(stride, 0))
        };
        Ok(Self { convolutions, skip: (inner != out).then(skip).transpose()? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.convolutions[1].forward(&self.convolutions[0].forward(x)?.relu()?)?;
        let skip = self.skip.as_ref().map_or_else(|| Ok(x.clone()), |skip| skip.forward(x))?;
        Ok((y + skip)?.relu()?)
    }
}

/// A 3x3 convolution and the batch normalisation behind it.
fn convolution(builder: &Builder, conv: &str, norm: &str, [inner, out, stride]: [usize; 3]) -> Result<Convolution> {
    let (weight, bias) = folded(&builder.part(conv), &builder.part(norm), &[out, inner, 3, 3], EPSILON)?;
    Convolution::of(&weight, Some(bias), Conv::new(stride, 1))
}

#[cfg(test)]
mod tests;
