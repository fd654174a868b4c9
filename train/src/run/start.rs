//! Where a run begins: at a checkpoint of its own, at another run's weights, or anew.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use drifting_models::weights;

use super::checkpoint::Saved;
use super::{Checkpoint, Experiment, RunError, RunFolder};
use crate::config::{OptimizerStart, ScheduleStart, StartSettings};
use crate::optim::{Ema, SCHEDULE_FROM, STEP};

/// Goes on from a checkpoint of the same run.
pub(super) fn resume(experiment: &mut dyn Experiment, checkpoint: &Checkpoint) -> Result<(), RunError> {
    let Saved { weights, mut state } = checkpoint.read()?;
    fill_averages(experiment, &weights, &mut state);
    experiment.restore(weights, &state)
}

/// Begins at step 0, with the weights that `[start]` names if there is one.
pub(super) fn begin(experiment: &mut dyn Experiment) -> Result<(), RunError> {
    let Some(start) = experiment.settings().start().cloned() else { return Ok(()) };
    let source = source(&start.model)?;
    let mut state = experiment.state()?;
    if start.optimizer == OptimizerStart::Restore {
        let kept = source.state.iter().filter(|(name, _)| name.starts_with("adamw.") || name.starts_with("ema."));
        let kept: Vec<_> = kept.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        if !kept.iter().any(|(name, _)| name.starts_with("adamw.")) {
            return Err(needs_checkpoint(&start, "start.optimizer = \"restore\""));
        }
        state.extend(kept);
    }
    if start.schedule == ScheduleStart::Continue {
        let counter = |name: &str| source.state.get(name).map(Tensor::to_scalar::<i64>).transpose();
        let (Some(step), Some(from)) = (counter(STEP)?, counter(SCHEDULE_FROM)?) else {
            return Err(needs_checkpoint(&start, "start.schedule = \"continue\""));
        };
        state.insert(SCHEDULE_FROM.to_owned(), Tensor::new(from.saturating_add(step), &Device::Cpu)?);
    }
    fill_averages(experiment, &source.weights, &mut state);
    let failed = |error: RunError| RunError::file(&start.model, format!("start.model: {error}"));
    experiment.restore(source.weights, &state).map_err(failed)
}

/// Averages that the checkpoint does not have begin at the weights.
fn fill_averages(
    experiment: &dyn Experiment,
    weights: &BTreeMap<String, Tensor>,
    state: &mut BTreeMap<String, Tensor>,
) {
    for decay in experiment.averages().iter().map(Ema::decay) {
        let prefix = format!("ema.{decay}.");
        if !state.keys().any(|name| name.starts_with(&prefix)) {
            state.extend(weights.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())));
        }
    }
}

fn needs_checkpoint(start: &StartSettings, setting: &str) -> RunError {
    let problem = format!("{setting} needs a run folder or a checkpoint folder, this is neither");
    RunError::file(&start.model, problem)
}

/// The weights behind a path, with the state of the run that they are from if it is there.
fn source(path: &Path) -> Result<Saved, RunError> {
    if path.is_file() {
        let weights = weights::read(path, &Device::Cpu)?.tensors;
        return Ok(Saved { weights, state: BTreeMap::new() });
    }
    if path.join(super::checkpoint::MODEL).is_file() {
        return Checkpoint::at(path.to_owned()).read();
    }
    if !path.exists() {
        let problem = "is not there; start.model is a run folder, a checkpoint folder or a weight file";
        return Err(RunError::file(path, problem));
    }
    match RunFolder::open(path)?.latest()? {
        Some(checkpoint) => checkpoint.read(),
        None => Err(RunError::file(path, "has no checkpoint yet")),
    }
}
