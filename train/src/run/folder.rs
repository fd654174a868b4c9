//! The folder of one run.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use drifting_models::weights::write_bytes;

use super::changes::{Change, changes, covers};
use super::checkpoint::Checkpoint;
use super::record::{RunJson, Start};
use super::{Experiment, Facts, Launch, RunError};
use crate::config::{ExperimentConfig, TrainConfig};

/// What `--allow-changed` calls the images of a run.
const DATA: &str = "data";
/// What it calls the weight files.
const WEIGHTS: &str = "weights";

/// A run folder; while it is open no other process can train in it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: Option<File>,
}

impl RunFolder {
    /// Starts a run, or takes up the one that is there.
    ///
    /// # Errors
    /// A folder that was started with other settings, data or weight files, or in which another process trains.
    pub(super) fn create(experiment: &dyn Experiment, launch: &Launch<'_>) -> Result<Self, RunError> {
        let path = launch.folder;
        fs::create_dir_all(path.join("checkpoints")).map_err(RunError::io(path))?;
        fs::create_dir_all(path.join("samples")).map_err(RunError::io(path))?;
        let lock_path = path.join(".lock");
        let lock = File::create(&lock_path).map_err(RunError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunError::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(RunError::Io { path: lock_path, source }),
        }
        let folder = Self { path: path.to_owned(), _lock: Some(lock) };
        let (settings, facts) = (experiment.settings(), experiment.facts()?);
        let toml = settings.to_toml()?;
        let before = RunJson::read(&folder.run_json())?;
        // Before its first checkpoint a run has nothing that other settings could contradict.
        if folder.latest()?.is_some() {
            folder.check(&toml, &facts, before.as_ref(), launch.allow_changed)?;
        }
        write_bytes(&folder.config_file(), toml.as_bytes())?;
        let starts = before.map(|run| run.starts).unwrap_or_default();
        RunJson::new(settings, facts, starts).write(&folder.run_json())?;
        Ok(folder)
    }

    /// Opens a run to read from it.
    ///
    /// # Errors
    /// A folder that holds no run.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        match path.join("config.toml").is_file() {
            true => Ok(Self { path: path.to_owned(), _lock: None }),
            false => Err(RunError::file(path, "is no run folder: it has no config.toml (drifting train makes one)")),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved settings of a generator's run.
    ///
    /// # Errors
    /// Settings that this version cannot read, or those of another experiment.
    pub fn config(&self) -> Result<TrainConfig, RunError> {
        match self.experiment()? {
            ExperimentConfig::Generator(config) => Ok(*config),
            other => {
                let kind = other.settings().kind();
                Err(RunError::file(&self.path, format!("is the run of a {kind}, expected that of a generator")))
            }
        }
    }

    /// The resolved settings of the run, whatever it trains.
    ///
    /// # Errors
    /// Settings that this version cannot read.
    pub fn experiment(&self) -> Result<ExperimentConfig, RunError> {
        Ok(ExperimentConfig::load(&self.config_file(), &[])?)
    }

    /// The checkpoint that `latest` names; `None` before the first.
    ///
    /// # Errors
    /// A pointer to a checkpoint that is not there.
    pub fn latest(&self) -> Result<Option<Checkpoint>, RunError> {
        let pointer = self.path.join("latest");
        if !pointer.exists() {
            return Ok(None);
        }
        let name = fs::read_to_string(&pointer).map_err(RunError::io(&pointer))?;
        let checkpoint = self.checkpoints().join(name.trim());
        match checkpoint.is_dir() && !name.trim().is_empty() {
            true => Ok(Some(Checkpoint::at(checkpoint))),
            false => Err(RunError::file(&pointer, format!("names {:?}, which is not in checkpoints/", name.trim()))),
        }
    }

    /// The pictures in the order of their steps.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn pictures(&self) -> Result<Vec<PathBuf>, RunError> {
        let samples = self.path.join("samples");
        let entries = fs::read_dir(&samples).map_err(RunError::io(&samples))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let mut pictures: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "png")).collect();
        pictures.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        Ok(pictures)
    }

    /// The sample grid of the last step that has one.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn newest_samples(&self) -> Result<Option<PathBuf>, RunError> {
        Ok(self.pictures()?.pop())
    }

    /// The file of metrics.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The file of measurements on held-out images.
    #[must_use]
    pub fn evaluations(&self) -> PathBuf {
        self.path.join("evaluation.jsonl")
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    fn run_json(&self) -> PathBuf {
        self.path.join("run.json")
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// What `run.json` says.
    pub(super) fn record(&self) -> Result<Option<RunJson>, RunError> {
        RunJson::read(&self.run_json())
    }

    /// Adds a start to `run.json`, or completes the last one.
    pub(super) fn write_start(&self, start: &Start, new: bool) -> Result<(), RunError> {
        let Some(mut run) = self.record()? else { return Ok(()) };
        if !new {
            run.starts.pop();
        }
        run.starts.push(start.clone());
        run.write(&self.run_json())
    }

    /// Writes a checkpoint, then the pointer to it, then deletes the oldest ones.
    pub(super) fn save(&self, experiment: &dyn Experiment) -> Result<PathBuf, RunError> {
        let name = format!("step_{:06}", experiment.step_count());
        let path = self.checkpoints().join(&name);
        Checkpoint::write(&path, experiment)?;
        write_bytes(&self.path.join("latest"), format!("{name}\n").as_bytes())?;
        self.prune(experiment.settings().output().keep_checkpoints.max(1))?;
        Ok(path)
    }

    fn prune(&self, keep: usize) -> Result<(), RunError> {
        let checkpoints = self.checkpoints();
        let entries = fs::read_dir(&checkpoints).map_err(RunError::io(&checkpoints))?;
        let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix("step_")?.parse::<u64>().ok();
        let mut found: Vec<_> =
            entries.flatten().filter_map(|entry| Some((step(&entry.path())?, entry.path()))).collect();
        found.sort_unstable();
        found.truncate(found.len().saturating_sub(keep));
        for (_, path) in found {
            fs::remove_dir_all(&path).map_err(RunError::io(&path))?;
        }
        Ok(())
    }

    /// Writes the picture of this step; `None` for what is no picture.
    pub(super) fn write_samples(&self, experiment: &dyn Experiment) -> Result<Option<PathBuf>, RunError> {
        let Some(png) = experiment.picture()? else { return Ok(None) };
        let path = self.path.join("samples").join(format!("step_{:06}.png", experiment.step_count()));
        write_bytes(&path, &png)?;
        Ok(Some(path))
    }

    /// Copies the averages of a checkpoint into the folder, under the names that other runs use.
    pub(super) fn export(&self, experiment: &dyn Experiment, checkpoint: &Checkpoint) -> Result<(), RunError> {
        for (decay, path) in checkpoint.averages()? {
            if let Some(name) = experiment.export_name(decay) {
                let bytes = fs::read(&path).map_err(RunError::io(&path))?;
                write_bytes(&self.path.join(name), &bytes)?;
            }
        }
        Ok(())
    }

    /// Refuses settings, data and weight files that are not those the folder was started with.
    fn check(&self, toml: &str, now: &Facts, before: Option<&RunJson>, allowed: &[String]) -> Result<(), RunError> {
        let path = self.config_file();
        let text = fs::read_to_string(&path).map_err(RunError::io(&path))?;
        let mut found = changes(&text, toml, allowed).map_err(|error| RunError::file(&path, error.to_string()))?;
        if let Some(RunJson { facts: before, .. }) = before {
            let change = |key: &str, before: &str, now: &str| {
                let [before, now] = [before, now].map(ToOwned::to_owned);
                Change { key: format!("{key} (SHA-256)"), before, now }
            };
            if before.data_sha256 != now.data_sha256 && !covers(allowed, DATA) {
                found.push(change(DATA, &before.data_sha256, &now.data_sha256));
            }
            // By contents: the same file may lie elsewhere now.
            let kept = |hash: &String| now.weights.values().any(|now| now == hash);
            let now: Vec<_> = now.weights.iter().map(|(file, hash)| format!("{hash} ({file})")).collect();
            let gone = before.weights.iter().filter(|(_, hash)| !kept(hash) && !covers(allowed, WEIGHTS));
            found.extend(gone.map(|(file, hash)| change(&format!("{WEIGHTS} {file}"), hash, &now.join(", "))));
        }
        if found.is_empty() { Ok(()) } else { Err(RunError::OtherRun { path: self.path.clone(), changes: found }) }
    }
}
