//! Run folders: what a training run leaves behind, and how it goes on.
//!
//! ```text
//! RUN/config.toml               the resolved settings
//! RUN/run.json                  data, weights, and each start: program, machine, time
//! RUN/metrics.jsonl             one line every few steps
//! RUN/evaluation.jsonl          measurements on held-out or generated images, where the experiment has them
//! RUN/samples/step_000500.png   what was learned so far
//! RUN/checkpoints/step_000500/  weights, averages, optimizer
//! RUN/latest                    name of the last checkpoint, written last
//! RUN/failure.json              numbers that were not finite: the step and its images
//! RUN/RUN.md                    settings, curves, pictures; written when a run ends or stops
//! ```
//!
//! The same call starts a run and continues it, bit for bit.

mod changes;
mod chart;
mod checkpoint;
mod error;
mod experiment;
mod failure;
mod folder;
mod generator;
mod lines;
mod measuring;
mod model;
mod record;
mod report;
mod samples;
mod start;
mod summary;
mod together;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub use changes::Change;
pub use checkpoint::Checkpoint;
pub use error::RunError;
pub use experiment::{Experiment, Facts, Report};
pub use folder::RunFolder;
pub use generator::GeneratorRun;
pub(crate) use generator::provenance;
pub use model::ModelFile;
pub use record::Build;
pub use report::report;
pub use samples::{encode_png, grid, pictures};

use self::lines::Lines;
use self::record::{Machine, Start};
use crate::config::{OutputSettings, RunSettings};
use crate::ranks::Ranks;

/// One call of `drifting train`.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The run folder.
    pub folder: &'a Path,
    /// Settings and sections that may differ from those that the folder was started with.
    pub allow_changed: &'a [String],
    /// The program.
    pub build: &'a Build,
    /// The command line.
    pub command: &'a [String],
    /// Asks to stop after the step at hand.
    pub stop: &'a AtomicBool,
    /// The processes of the run; the first one writes the folder.
    pub ranks: &'a dyn Ranks,
}

/// Is told what a run does while it does it.
pub trait Observer {
    /// The run starts at `step`, which is 0 unless it continues.
    fn started(&mut self, step: u64, settings: &dyn RunSettings);
    /// A step was taken.
    fn stepped(&mut self, report: &Report);
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

/// Trains until all steps are taken or the launch's `stop` is set; the step at hand is finished and saved then.
///
/// # Errors
/// Settings that are not those the folder was started with, files that cannot be written, numbers that are not finite.
/// What was saved before stays.
pub fn train(
    experiment: &mut dyn Experiment,
    launch: &Launch<'_>,
    observer: &mut dyn Observer,
) -> Result<Outcome, RunError> {
    if launch.ranks.rank() > 0 {
        return follow(experiment, launch);
    }
    let folder = RunFolder::create(experiment, launch)?;
    failure::forget(&folder)?;
    match folder.latest()? {
        Some(checkpoint) => start::resume(experiment, &checkpoint)?,
        None => start::begin(experiment)?,
    }
    let mut start = Start {
        command: launch.command.to_vec(),
        build: launch.build.clone(),
        machine: Machine::here(),
        started: record::now(),
        from_step: experiment.step_count(),
        ..Start::default()
    };
    folder.write_start(&start, true)?;
    together::begin(launch.ranks);
    observer.started(experiment.step_count(), experiment.settings());
    let result = steps(experiment, &folder, launch, observer);
    start.stopped = Some(record::now());
    start.to_step = Some(experiment.step_count());
    start.outcome = Some(match &result {
        Ok(Outcome { finished: true, .. }) => "finished".to_owned(),
        Ok(_) => "stopped".to_owned(),
        Err(error) => error.to_string(),
    });
    folder.write_start(&start, false)?;
    observer.wrote(&summary::write(&folder, experiment.settings())?);
    result
}

/// The steps of a run and what is written between them.
fn steps(
    experiment: &mut dyn Experiment,
    folder: &RunFolder,
    launch: &Launch<'_>,
    observer: &mut dyn Observer,
) -> Result<Outcome, RunError> {
    let due = |every: u64, step: u64| every > 0 && step.is_multiple_of(every);
    let (total, images) = (experiment.settings().steps(), experiment.settings().images_per_step());
    let OutputSettings { metrics_every, samples_every, checkpoint_every, .. } = *experiment.settings().output();
    let mut metrics = Lines::open(&folder.metrics(), experiment.step_count())?;
    let mut evaluations = Lines::open(&folder.evaluations(), experiment.step_count())?;
    let mut stop = together::stop(experiment, launch)?;
    while experiment.step_count() < total && !stop {
        let report = experiment.step().map_err(|error| failure::explain(error, experiment, folder))?;
        let (step, last) = (report.step, report.step == total);
        if last || due(metrics_every.max(1), step) {
            metrics.write(step, &lines::metrics(&report, images))?;
        }
        observer.stepped(&report);
        stop = together::stop(experiment, launch)?;
        if let Some(found) = experiment.evaluate(last)? {
            evaluations.write(step, &found)?;
        }
        if last || due(samples_every, step) {
            folder.write_samples(experiment)?.inspect(|path| observer.wrote(path));
        }
        if last || due(checkpoint_every, step) || stop {
            observer.wrote(&folder.save(experiment)?);
        }
    }
    let checkpoint = match folder.latest()? {
        Some(checkpoint) => checkpoint,
        None => Checkpoint::at(folder.save(experiment)?),
    };
    folder.export(experiment, &checkpoint)?;
    let step = experiment.step_count();
    Ok(Outcome { step, finished: step >= total, checkpoint: checkpoint.path().to_owned() })
}

/// The steps of a rank that writes nothing.
fn follow(experiment: &mut dyn Experiment, launch: &Launch<'_>) -> Result<Outcome, RunError> {
    together::begin(launch.ranks);
    let folder = RunFolder::open(launch.folder)?;
    match folder.latest()? {
        Some(checkpoint) => start::resume(experiment, &checkpoint)?,
        None => start::begin(experiment)?,
    }
    let total = experiment.settings().steps();
    let mut stop = together::stop(experiment, launch)?;
    while experiment.step_count() < total && !stop {
        experiment.step().map_err(|error| failure::explain(error, experiment, &folder))?;
        stop = together::stop(experiment, launch)?;
    }
    let step = experiment.step_count();
    Ok(Outcome { step, finished: step >= total, checkpoint: folder.path().to_owned() })
}

#[cfg(test)]
mod tests;
