//! Judging a generator with a small CNN that is trained on the real images.

use std::io::{IsTerminal, stderr};
use std::path::Path;

use anyhow::{Context, Result};
use drifting_models::Generator;
use drifting_train::config::TrainConfig;
use drifting_train::data::{DataSource, Dataset};
use drifting_train::eval::{Judge, JudgeSettings, QualityReport, Reference, Samples};
use indicatif::{ProgressBar, ProgressStyle};

/// Seed of the images that are judged: training never saw their noise.
pub(crate) const SEED: u64 = 1_000_003;

/// The judge of a data set: the one at `path`, or a new one that is kept there.
pub(crate) fn reference(config: &TrainConfig, train: &Dataset, path: &Path) -> Result<Reference> {
    let (train, test) = with_test(&config.data, train)?;
    Ok(Reference::new(judge(&train, Some(path))?, &train, &test)?)
}

/// Training and test images; every fifth training image is held out where there are no test images.
pub(crate) fn with_test(source: &DataSource, train: &Dataset) -> Result<(Dataset, Dataset)> {
    match source.open_test(train)? {
        Some((test, _)) => Ok((train.clone(), test)),
        None => train.hold_out(5).context("the data have no test images and too few to hold some out"),
    }
}

/// The judge of these training images: the one at `path`, or a new one that is kept there.
pub(crate) fn judge(train: &Dataset, path: Option<&Path>) -> Result<Judge> {
    let kept = path.and_then(|path| Judge::load(path).ok());
    if let Some(judge) = kept.filter(|judge| judge.data_sha256() == train.sha256()) {
        return Ok(judge);
    }
    eprintln!("training the judge, a small CNN, on {} real images", train.len());
    let judge = learn(train)?;
    match path {
        Some(path) => drop(judge.save(path)?),
        None => eprintln!("--judge FILE would keep it"),
    }
    Ok(judge)
}

fn learn(train: &Dataset) -> Result<Judge> {
    let bar = if stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {eta} left")?);
    let judge = Judge::train(train, JudgeSettings::default(), |progress| {
        bar.set_length(progress.steps);
        bar.set_position(progress.step);
    })?;
    bar.finish_and_clear();
    Ok(judge)
}

/// Generates `per_class` images of every class and measures them.
pub(crate) fn measure(
    reference: &Reference,
    generator: &Generator,
    alpha: f32,
    per_class: usize,
) -> Result<QualityReport> {
    let samples = Samples::of(generator, SEED, alpha, per_class)?;
    Ok(reference.measure(&samples)?)
}
