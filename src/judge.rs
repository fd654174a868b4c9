//! Judging a generator with a small CNN that is trained on the real images.

use std::io::{IsTerminal, stderr};
use std::path::Path;

use anyhow::{Context, Result};
use drifting_models::Generator;
use drifting_spec::Inputs;
use drifting_train::config::TrainConfig;
use drifting_train::data::Dataset;
use drifting_train::eval::{Judge, JudgeSettings, QualityReport, Reference, Samples};
use indicatif::{ProgressBar, ProgressStyle};

/// Seed of the images that are judged: training never saw their noise.
pub(crate) const SEED: u64 = 1_000_003;
/// Images generated at once.
const BATCH: usize = 100;

/// The judge of a data set: the one at `path`, or a new one that is kept there.
pub(crate) fn reference(config: &TrainConfig, train: &Dataset, path: &Path) -> Result<Reference> {
    let test = config.data.open_test(train)?;
    let (train, test) = match test {
        Some((test, _)) => (train.clone(), test),
        None => train.hold_out(5).context("the data have no test images and too few to hold some out")?,
    };
    let kept = Judge::load(path).ok().filter(|judge| judge.data_sha256() == train.sha256());
    let judge = match kept {
        Some(judge) => judge,
        None => {
            eprintln!("training the judge, a small CNN, on {} real images", train.len());
            let judge = learn(&train)?;
            judge.save(path)?;
            judge
        }
    };
    Ok(Reference::new(judge, &train, &test)?)
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
    let config = generator.config();
    let labels: Vec<usize> = (0..config.classes * per_class).map(|i| i / per_class.max(1)).collect();
    let mut images = Vec::with_capacity(labels.len() * config.image.len());
    for (batch, classes) in labels.chunks(BATCH).enumerate() {
        let mut inputs = Inputs::default();
        for (i, class) in classes.iter().enumerate() {
            inputs.push_seeded(config, SEED, (batch * BATCH + i) as u64, *class, alpha);
        }
        images.extend(generator.run(&inputs)?.flatten_all()?.to_vec1::<f32>()?);
    }
    let shape = (labels.len(), config.image.channels, config.image.height, config.image.width);
    let images = drifting_train::eval::images(images, shape)?;
    Ok(reference.measure(&Samples { images, labels })?)
}
