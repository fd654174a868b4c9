//! The network that images are judged by.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use drifting_models::inception::Preparation;
use drifting_train::data::Dataset;
use drifting_train::eval::{Network, NetworkName, Sizing};

use super::Args;
use crate::judge;

/// Reads a network's name.
pub(super) fn name() -> impl TypedValueParser<Value = NetworkName> {
    let names = NetworkName::ALL.map(|network| PossibleValue::new(network.name()).help(network.about()));
    PossibleValuesParser::new(names).try_map(|name| {
        let named = NetworkName::ALL.into_iter().find(|network| network.name() == name);
        named.ok_or_else(|| format!("{name} is no network"))
    })
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
    let weights = match (name, training) {
        (NetworkName::Judge, Some(training)) => return Ok(Box::new(judge::judge(training, judge)?)),
        (NetworkName::Judge, None) => {
            judge.context("--network judge needs --data to learn from, or --judge with one that has learned")?
        }
        _ => {
            let problem = || format!("--network {} needs --weights with the file of its weights", name.name());
            args.weights.as_deref().with_context(problem)?
        }
    };
    Ok(name.open(weights, Sizing { preparation: args.preparation.into(), side: args.side })?)
}
