//! The network that images are judged by.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use drifting_models::inception::Preparation;
use drifting_train::data::Dataset;
use drifting_train::eval::{Judge, Network, Published};

use super::Args;
use crate::judge;

/// Networks by the names that a person types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Name {
    /// The small CNN that is trained on the real images.
    #[default]
    Judge,
    /// The ResNet-56 of CIFAR-10.
    Resnet56,
    /// The Inception-V3 of FID.
    Inception,
    /// The Inception-V3 of torchvision.
    InceptionTorchvision,
    /// EfficientNet-Lite0 of ImageNet.
    Lite0,
}

/// How images are resized and scaled for the Inception of FID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Resize {
    /// As TensorFlow's graph and the drifting paper's evaluation.
    #[default]
    Tensorflow,
    /// As the program pytorch-fid.
    PytorchFid,
}

impl From<Resize> for Preparation {
    fn from(resize: Resize) -> Self {
        match resize {
            Resize::Tensorflow => Self::Tensorflow,
            Resize::PytorchFid => Self::PytorchFid,
        }
    }
}

/// Opens the network that was asked for: the judge of `training` images, kept at `judge`, or published weights.
pub(super) fn open(args: &Args, training: Option<&Dataset>, judge: Option<&Path>) -> Result<Box<dyn Network>> {
    let name = args.network.unwrap_or_default();
    let weights = || {
        let said = name.to_possible_value().map(|name| name.get_name().to_owned()).unwrap_or_default();
        args.weights
            .as_deref()
            .with_context(|| format!("--network {said} needs --weights with the file of its weights"))
    };
    Ok(match (name, training) {
        (Name::Judge, Some(training)) => Box::new(judge::judge(training, judge)?),
        (Name::Judge, None) => {
            let path =
                judge.context("--network judge needs --data to learn from, or --judge with one that has learned")?;
            Box::new(Judge::load(path)?)
        }
        (Name::Resnet56, _) => Box::new(Published::resnet56(weights()?)?),
        (Name::Inception, _) => Box::new(Published::inception(weights()?, args.preparation.into())?),
        (Name::InceptionTorchvision, _) => Box::new(Published::inception_torchvision(weights()?)?),
        (Name::Lite0, _) => Box::new(Published::lite0(weights()?, args.side)?),
    })
}
