//! Published networks as judges.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use drifting_models::Judgement;
use drifting_models::efficientnet::EfficientNetLite0;
use drifting_models::inception::{Inception, Preparation, Variant};
use drifting_models::resnet::Resnet56;
use rayon::prelude::*;

use super::{EvalError, Network, Pixels, Result, Sight};

/// The start of the SHA-256 of the weights that FID is defined by, which their published name carries too.
const FID_SHA256: &str = "6726825d";
/// Batches that are looked at side by side: where one has little to do at a time, others fill the threads.
const AT_ONCE: usize = 4;
/// Side of the images of CIFAR-10.
const CIFAR_SIDE: usize = 32;

/// A classifier that others have trained and published; its weights are read from a file.
#[derive(Clone, Debug)]
pub struct Published(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Inception { network: Inception, variant: Variant, preparation: Preparation },
    Resnet56(Resnet56),
    Lite0(EfficientNetLite0),
}

impl Published {
    /// The Inception-V3 of FID. With other weights than the published ones its distance is not called `FID`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, or which one is meant.
    pub fn inception(weights: &Path, preparation: Preparation) -> Result<Self> {
        there(
            weights,
            "pt_inception-2015-12-05-6726825d.pth, which the package `pytorch-fid` downloads (its release `fid_weights`)",
        )?;
        let network = Inception::open(weights, Variant::Fid, preparation, &Device::Cpu)?;
        Ok(Self(Kind::Inception { network, variant: Variant::Fid, preparation }))
    }

    /// The Inception-V3 of torchvision. Its numbers are not comparable with FID.
    ///
    /// # Errors
    /// As [`inception`](Self::inception).
    pub fn inception_torchvision(weights: &Path) -> Result<Self> {
        there(
            weights,
            "inception_v3_google-0cc3c7bd.pth, which torchvision downloads as `Inception_V3_Weights.IMAGENET1K_V1`",
        )?;
        // What torchvision does with images, normalising by ImageNet's statistics and turning that back inside the network,
        // is what `pytorch-fid` does at once.
        let (variant, preparation) = (Variant::Torchvision, Preparation::PytorchFid);
        let network = Inception::open(weights, variant, preparation, &Device::Cpu)?;
        Ok(Self(Kind::Inception { network, variant, preparation }))
    }

    /// The ResNet-56 of CIFAR-10, for images of 32 x 32.
    ///
    /// # Errors
    /// As [`inception`](Self::inception).
    pub fn resnet56(weights: &Path) -> Result<Self> {
        there(weights, "resnet56-4bfd9763.th of the repository `akamaster/pytorch_resnet_cifar10`, or its tensors")?;
        Ok(Self(Kind::Resnet56(Resnet56::open(weights, &Device::Cpu)?)))
    }

    /// EfficientNet-Lite0, with images resized to `side` x `side`; it was trained on [`EfficientNetLite0::SIDE`].
    ///
    /// # Errors
    /// As [`inception`](Self::inception); a side that is no multiple of 32.
    pub fn lite0(weights: &Path, side: usize) -> Result<Self> {
        there(weights, "efficientnet-lite0-57934424.pth, which `tools/fetch-weights lite0 FOLDER` gets")?;
        Ok(Self(Kind::Lite0(EfficientNetLite0::open(weights, side, &Device::Cpu)?)))
    }

    /// Images that are looked at at once: their largest map takes some 100 MB.
    fn batch(&self) -> usize {
        match &self.0 {
            Kind::Inception { .. } => 16,
            Kind::Resnet56(_) => 250,
            Kind::Lite0(network) => (20 * EfficientNetLite0::SIDE.pow(2) / network.side().pow(2)).clamp(1, 250),
        }
    }

    /// Features and logits of a batch of levels `[n, 1 or 3, height, width]`.
    fn batch_of(&self, levels: &Tensor) -> Result<(Tensor, Tensor)> {
        let images = levels.to_dtype(DType::F32)?.affine(2.0 / 255.0, -1.0)?;
        // Grey is three equal colours.
        let images = if images.dim(1)? == 1 { images.repeat((1, 3, 1, 1))? } else { images };
        let judgement = self.forward(&images)?;
        Ok((judgement.features.detach(), judgement.logits.detach()))
    }

    fn forward(&self, images: &Tensor) -> drifting_models::Result<Judgement> {
        match &self.0 {
            Kind::Inception { network, .. } => network.forward(images),
            Kind::Resnet56(network) => network.forward(images),
            Kind::Lite0(network) => network.forward(images),
        }
    }
}

/// What the network of FID goes by with weights of this SHA-256.
fn inception_name(sha256: &str) -> &'static str {
    if sha256.starts_with(FID_SHA256) { "inception" } else { "fd-inception" }
}

/// Says which file is meant where there is none.
fn there(weights: &Path, expected: &str) -> Result<()> {
    if weights.exists() {
        return Ok(());
    }
    let problem = format!("is not there; expected {expected}, or the same tensors as safetensors");
    Err(EvalError::File { path: weights.to_owned(), problem })
}

impl Network for Published {
    fn name(&self) -> &str {
        match &self.0 {
            Kind::Inception { variant: Variant::Torchvision, .. } => "inception-torchvision",
            Kind::Inception { network, .. } => inception_name(network.sha256()),
            Kind::Resnet56(_) => "resnet56",
            Kind::Lite0(_) => "lite0",
        }
    }

    fn sha256(&self) -> &str {
        match &self.0 {
            Kind::Inception { network, .. } => network.sha256(),
            Kind::Resnet56(network) => network.sha256(),
            Kind::Lite0(network) => network.sha256(),
        }
    }

    fn features(&self) -> usize {
        match &self.0 {
            Kind::Inception { .. } => Inception::FEATURES,
            Kind::Resnet56(_) => Resnet56::FEATURES,
            Kind::Lite0(_) => EfficientNetLite0::FEATURES,
        }
    }

    fn classes(&self) -> usize {
        match &self.0 {
            Kind::Inception { variant, .. } => variant.classes(),
            Kind::Resnet56(_) => Resnet56::CLASSES,
            Kind::Lite0(_) => EfficientNetLite0::CLASSES,
        }
    }

    fn preparation(&self) -> String {
        let resized = "bilinear resize to 299 x 299, pixels aligned at their centres, without antialiasing";
        match &self.0 {
            Kind::Inception { variant: Variant::Torchvision, .. } => format!(
                "{resized}; level / 255 normalised by ImageNet's mean and deviation and turned to [-1, 1] (torchvision)"
            ),
            Kind::Inception { preparation: Preparation::PytorchFid, .. } => {
                format!("{resized}; 2 level / 255 - 1 (pytorch-fid)")
            }
            Kind::Inception { preparation: Preparation::Tensorflow, .. } => "bilinear resize to 299 x 299, pixel i at \
                 i old / 299, without antialiasing; (level - 128) / 128 (TensorFlow's graph)"
                .to_owned(),
            Kind::Resnet56(_) => "level / 255 normalised by ImageNet's mean and deviation".to_owned(),
            Kind::Lite0(network) => {
                format!("bilinear resize to {0} x {0} with antialiasing; (level - 127) / 128", network.side())
            }
        }
    }

    fn distance_name(&self) -> String {
        match self.name() {
            "inception" => "FID".to_owned(),
            "fd-inception" => "fd-inception".to_owned(),
            name => format!("fd-{name}"),
        }
    }

    fn look(&self, images: &Pixels) -> Result<Sight> {
        let images = &images.images;
        let dims = images.dims4().ok().filter(|(count, channels, ..)| *count > 0 && matches!(channels, 1 | 3));
        let Some((count, _, height, width)) = dims else {
            let problem = format!("{}: images {:?}, expected [n, 1 or 3, height, width]", self.name(), images.dims());
            return Err(EvalError::Samples(problem));
        };
        if matches!(self.0, Kind::Resnet56(_)) && (height, width) != (CIFAR_SIDE, CIFAR_SIDE) {
            let problem = format!("resnet56: images of {height} x {width}, expected {CIFAR_SIDE} x {CIFAR_SIDE}");
            return Err(EvalError::Samples(problem));
        }
        let batch = self.batch();
        let starts: Vec<usize> = (0..count).step_by(batch).collect();
        let mut seen = Vec::with_capacity(starts.len());
        for starts in starts.chunks(AT_ONCE) {
            let some =
                starts.par_iter().map(|&start| self.batch_of(&images.narrow(0, start, batch.min(count - start))?));
            seen.extend(some.collect::<Result<Vec<_>>>()?);
        }
        let (features, logits): (Vec<_>, Vec<_>) = seen.into_iter().unzip();
        Ok(Sight { features: Tensor::cat(&features, 0)?, logits: Tensor::cat(&logits, 0)? })
    }
}

#[cfg(test)]
mod tests;
