//! The network that images are judged by.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use drifting_train::data::Dataset;
use drifting_train::eval::{Judge, Network};

use super::Args;
use crate::judge;

/// Networks by the names that a person types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Name {
    /// The small CNN that is trained on the real images.
    #[default]
    Judge,
}

/// Opens the network that was asked for: the judge of `training` images, kept at `judge`.
pub(super) fn open(args: &Args, training: Option<&Dataset>, judge: Option<&Path>) -> Result<Box<dyn Network>> {
    Ok(match (args.network.unwrap_or_default(), training) {
        (Name::Judge, Some(training)) => Box::new(judge::judge(training, judge)?),
        (Name::Judge, None) => {
            let path =
                judge.context("--network judge needs --data to learn from, or --judge with one that has learned")?;
            Box::new(Judge::load(path)?)
        }
    })
}
