//! Judging networks by the names that a person types.

use std::path::Path;

use drifting_models::efficientnet::EfficientNetLite0;
use drifting_models::inception::Preparation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Judge, Network, Published, Result};

/// Networks for judging, by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkName {
    /// The small CNN that `drifting eval` trains on the real images.
    #[default]
    Judge,
    /// The ResNet-56 of CIFAR-10.
    Resnet56,
    /// The Inception-V3 of FID, with images resized as the drifting paper's evaluation does.
    Inception,
    /// The Inception-V3 of torchvision.
    InceptionTorchvision,
    /// EfficientNet-Lite0 of ImageNet.
    Lite0,
}

/// How images reach the networks that leave a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// For the Inception of FID.
    pub preparation: Preparation,
    /// Side that images are resized to for EfficientNet-Lite0.
    pub side: usize,
}

impl Default for Sizing {
    fn default() -> Self {
        Self { preparation: Preparation::Tensorflow, side: EfficientNetLite0::SIDE }
    }
}

impl NetworkName {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Judge, Self::Resnet56, Self::Inception, Self::InceptionTorchvision, Self::Lite0];

    /// What a person types.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Judge => "judge",
            Self::Resnet56 => "resnet56",
            Self::Inception => "inception",
            Self::InceptionTorchvision => "inception-torchvision",
            Self::Lite0 => "lite0",
        }
    }

    /// What it is, in a line.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Judge => "The small CNN that is trained on the real images",
            Self::Resnet56 => "The ResNet-56 of CIFAR-10",
            Self::Inception => "The Inception-V3 of FID",
            Self::InceptionTorchvision => "The Inception-V3 of torchvision",
            Self::Lite0 => "EfficientNet-Lite0 of ImageNet",
        }
    }

    /// Opens the network with the weights in a file; a judge that has learned before.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, or which one is meant.
    pub fn open(self, weights: &Path, sizing: Sizing) -> Result<Box<dyn Network>> {
        Ok(match self {
            Self::Judge => Box::new(Judge::load(weights)?),
            Self::Resnet56 => Box::new(Published::resnet56(weights)?),
            Self::Inception => Box::new(Published::inception(weights, sizing.preparation)?),
            Self::InceptionTorchvision => Box::new(Published::inception_torchvision(weights)?),
            Self::Lite0 => Box::new(Published::lite0(weights, sizing.side)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_settings() {
        for name in NetworkName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.name());
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        for name in NetworkName::ALL {
            let error = name.open("nowhere.pth".as_ref(), Sizing::default()).err().unwrap().to_string();
            assert!(error.contains("nowhere.pth"), "{}: {error}", name.name());
        }
    }
}
