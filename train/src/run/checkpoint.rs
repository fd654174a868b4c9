//! Checkpoints: everything that a run needs to go on, and weights that other commands take from it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use drifting_models::weights;

use super::{Experiment, ModelFile, RunError};

pub(super) const MODEL: &str = "model.safetensors";
const STATE: &str = "state.safetensors";
/// Entries of a weight file's header.
pub(super) const MANIFEST_ENTRY: &str = "manifest";
pub(super) const CONFIG_ENTRY: &str = "config";
pub(super) const STEP_ENTRY: &str = "step";

/// A folder with the weights (`model`), each moving average (`ema_DECAY`) and everything else (`state`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    path: PathBuf,
}

/// What a checkpoint holds.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) weights: BTreeMap<String, Tensor>,
    /// Optimizer, counters and whatever else the experiment keeps; averages as `ema.DECAY.NAME`.
    pub(super) state: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// The checkpoint in a folder that exists.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a checkpoint beside `path`, syncs it and renames it into place.
    pub(super) fn write(path: &Path, experiment: &dyn Experiment) -> Result<(), RunError> {
        let beside = path.with_extension("partial");
        remove(&beside)?;
        fs::create_dir(&beside).map_err(RunError::io(&beside))?;
        weights::write(&beside.join(MODEL), &experiment.params().tensors(), &experiment.describe(None)?)?;
        for average in experiment.averages() {
            let about = experiment.describe(Some(average.decay()))?;
            weights::write(&beside.join(average_name(average.decay())), average.tensors(), &about)?;
        }
        let about =
            [(STEP_ENTRY, experiment.step_count().to_string()), (CONFIG_ENTRY, experiment.settings().to_toml()?)];
        let about = about.map(|(key, value)| (key.to_owned(), value));
        weights::write(&beside.join(STATE), &experiment.state()?, &BTreeMap::from(about))?;
        // A checkpoint of the same step can only be one that the pointer never reached.
        remove(path)?;
        fs::rename(&beside, path).map_err(RunError::io(path))?;
        let folder = path.parent().unwrap_or(path);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(RunError::io(folder))
    }

    /// Reads everything, with the averages of every decay that is there.
    pub(super) fn read(&self) -> Result<Saved, RunError> {
        let read = |path: &Path| weights::read(path, &Device::Cpu);
        let mut saved = Saved { weights: read(&self.path.join(MODEL))?.tensors, state: BTreeMap::new() };
        saved.state = read(&self.path.join(STATE))?.tensors;
        for (decay, path) in self.averages()? {
            let average = read(&path)?.tensors;
            saved.state.extend(average.into_iter().map(|(name, tensor)| (format!("ema.{decay}.{name}"), tensor)));
        }
        Ok(saved)
    }

    /// The files of the moving averages by decay.
    pub(super) fn averages(&self) -> Result<Vec<(f64, PathBuf)>, RunError> {
        let entries = fs::read_dir(&self.path).map_err(RunError::io(&self.path))?;
        let decay =
            |path: &Path| path.file_name()?.to_str()?.strip_prefix("ema_")?.strip_suffix(".safetensors")?.parse().ok();
        let found = entries.flatten().filter_map(|entry| Some((decay(&entry.path())?, entry.path())));
        let mut found: Vec<(f64, PathBuf)> = found.collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(found)
    }

    /// The file of the average of `decay`, or of the first of `decays`.
    ///
    /// # Errors
    /// A decay that the run did not track, with those that it did.
    pub fn average_file(&self, decays: &[f64], decay: Option<f64>) -> Result<PathBuf, RunError> {
        let decay = decay.or(decays.first().copied()).unwrap_or_default();
        if !decays.contains(&decay) {
            let problem = format!("has no moving average of decay {decay}; it has {decays:?}");
            return Err(RunError::file(&self.path, problem));
        }
        Ok(self.path.join(average_name(decay)))
    }

    /// The generator's weights that are sampled and exported: the first moving average, or the one with `decay`.
    ///
    /// # Errors
    /// As [`average_file`](Self::average_file), and a file that holds no generator.
    pub fn average(&self, decays: &[f64], decay: Option<f64>) -> Result<ModelFile, RunError> {
        ModelFile::read(&self.average_file(decays, decay)?)
    }
}

/// The name of a moving average's file.
fn average_name(decay: f64) -> String {
    format!("ema_{decay}.safetensors")
}

fn remove(folder: &Path) -> Result<(), RunError> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(RunError::io(folder)) } else { Ok(()) }
}
