//! Run folders: what a training run leaves behind, and how it goes on.
//!
//! ```text
//! RUN/config.toml               the resolved settings
//! RUN/run.json                  version, data and their hash
//! RUN/metrics.jsonl             one line every few steps
//! RUN/samples/step_000500.png   classes x alphas from fixed noise
//! RUN/checkpoints/step_000500/  weights, averages, optimizer
//! RUN/latest                    name of the last checkpoint, written last
//! ```
//!
//! The same call starts a run and continues it, bit for bit.

mod checkpoint;
mod error;
mod folder;
mod metrics;
mod samples;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use checkpoint::{Checkpoint, ModelFile};
pub use error::RunError;
pub use folder::RunFolder;
pub use samples::{encode_png, grid};

use self::metrics::Metrics;
use crate::config::TrainConfig;
use crate::data::{Dataset, DirectFeed};
use crate::trainer::{StepReport, Trainer};

/// Is told what a run does while it does it.
pub trait Observer {
    /// The run starts at `step`, which is 0 unless it continues.
    fn started(&mut self, step: u64, config: &TrainConfig);
    /// A step was taken.
    fn stepped(&mut self, report: &StepReport);
    /// A file or folder was written.
    fn wrote(&mut self, path: &Path);
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Steps taken in all.
    pub step: u64,
    /// Whether all steps were taken; otherwise it was asked to stop.
    pub finished: bool,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
}

/// Trains in `folder` until all steps are taken or `stop` is set; the step at hand is finished and saved then.
///
/// # Errors
/// Settings that are not those the folder was started with, files that cannot be written, numbers that are not finite.
/// What was saved before stays.
pub fn train(
    config: &TrainConfig,
    data: &Dataset,
    path: &Path,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome, RunError> {
    let folder = RunFolder::create(path, config, data)?;
    let feed = DirectFeed::new(Arc::new(data.clone()), config.seed);
    let mut trainer = Trainer::new(config, Box::new(feed))?;
    if let Some(checkpoint) = folder.latest()? {
        checkpoint.restore(&mut trainer, config)?;
    }
    let start = trainer.step_count();
    let mut metrics = Metrics::open(&folder.metrics(), start)?;
    observer.started(start, config);
    let output = config.output;
    let due = |every: u64, step: u64| every > 0 && step.is_multiple_of(every);
    let mut saved = folder.latest()?.filter(|_| start > 0).map(|checkpoint| checkpoint.path().to_owned());
    while trainer.step_count() < config.steps && !stop.load(Ordering::Relaxed) {
        let report = trainer.step()?;
        let (step, last) = (report.step, report.step == config.steps);
        if last || due(output.metrics_every.max(1), step) {
            metrics.write(&report, config)?;
        }
        observer.stepped(&report);
        if last || due(output.samples_every, step) {
            folder.write_samples(&trainer, config)?.inspect(|path| observer.wrote(path));
        }
        if last || due(output.checkpoint_every, step) || stop.load(Ordering::Relaxed) {
            let path = folder.save(&trainer, config, data)?;
            observer.wrote(&path);
            saved = Some(path);
        }
    }
    let checkpoint = match saved {
        Some(path) => path,
        None => folder.save(&trainer, config, data)?,
    };
    let step = trainer.step_count();
    Ok(Outcome { step, finished: step >= config.steps, checkpoint })
}

#[cfg(test)]
mod tests;
