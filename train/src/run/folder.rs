//! The folder of one run.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use drifting_models::weights::write_bytes;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::checkpoint::Checkpoint;
use super::{RunError, samples};
use crate::config::TrainConfig;
use crate::data::Dataset;
use crate::trainer::Trainer;

/// Settings that may change when a run goes on: they do not change what the steps compute.
const FREE: [&str; 4] = ["steps", "name", "output", "sampling"];

/// Version, data and hashes of a run.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct RunJson {
    tool_version: String,
    seed: u64,
    parameters: usize,
    data_images: usize,
    data_classes: Vec<String>,
    data_sha256: String,
}

/// A run folder; while it is open no other process can train in it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: Option<File>,
}

impl RunFolder {
    /// Starts a run in `path`, or takes up the one that is there.
    ///
    /// # Errors
    /// A folder that was started with other settings or data, or in which another process trains.
    pub fn create(path: &Path, config: &TrainConfig, data: &Dataset) -> Result<Self, RunError> {
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
        let config_path = path.join("config.toml");
        if config_path.exists() {
            folder.check(config, data)?;
        }
        write_bytes(&config_path, config.to_toml()?.as_bytes())?;
        folder.write_run_json(config, data)?;
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

    /// The resolved settings of the run.
    ///
    /// # Errors
    /// Settings that this version cannot read.
    pub fn config(&self) -> Result<TrainConfig, RunError> {
        Ok(TrainConfig::load(&self.path.join("config.toml"), &[])?)
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

    /// The sample grid of the last step that has one.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn newest_samples(&self) -> Result<Option<PathBuf>, RunError> {
        let samples = self.path.join("samples");
        let entries = fs::read_dir(&samples).map_err(RunError::io(&samples))?;
        let pictures = entries.flatten().map(|entry| entry.path());
        Ok(pictures.filter(|path| path.extension().is_some_and(|extension| extension == "png")).max())
    }

    /// The file of metrics.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Writes a checkpoint, then the pointer to it, then deletes the oldest ones.
    pub(super) fn save(
        &self,
        trainer: &Trainer<'_>,
        config: &TrainConfig,
        data: &Dataset,
    ) -> Result<PathBuf, RunError> {
        let name = format!("step_{:06}", trainer.step_count());
        let path = self.checkpoints().join(&name);
        Checkpoint::write(&path, trainer, config, data)?;
        write_bytes(&self.path.join("latest"), format!("{name}\n").as_bytes())?;
        self.prune(config.output.keep_checkpoints.max(1))?;
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

    /// Writes the sample grid of this step; `None` for latents, which are no pictures.
    pub(super) fn write_samples(
        &self,
        trainer: &Trainer<'_>,
        config: &TrainConfig,
    ) -> Result<Option<PathBuf>, RunError> {
        if !matches!(config.generator.image.channels, 1 | 3) {
            return Ok(None);
        }
        let path = self.path.join("samples").join(format!("step_{:06}.png", trainer.step_count()));
        let png = samples::grid(&trainer.averaged_generator()?, config)?;
        write_bytes(&path, &png)?;
        Ok(Some(path))
    }

    fn write_run_json(&self, config: &TrainConfig, data: &Dataset) -> Result<(), RunError> {
        let path = self.path.join("run.json");
        let run = RunJson {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: config.seed,
            parameters: drifting_models::parameter_count(&config.generator)?,
            data_images: data.len(),
            data_classes: data.classes().to_vec(),
            data_sha256: data.sha256().to_owned(),
        };
        let json = serde_json::to_string_pretty(&run).map_err(|error| RunError::file(&path, error.to_string()))?;
        Ok(write_bytes(&path, format!("{json}\n").as_bytes())?)
    }

    /// Refuses settings and data that are not those the folder was started with.
    fn check(&self, config: &TrainConfig, data: &Dataset) -> Result<(), RunError> {
        let other = |key: &str, before: String, now: String| RunError::OtherRun {
            path: self.path.clone(),
            key: key.to_owned(),
            before,
            now,
        };
        let (before, now) = (flat(&self.config()?)?, flat(config)?);
        for key in before.keys().chain(now.keys()) {
            let (before, now) = (before.get(key), now.get(key));
            if before != now && !FREE.contains(&key.split('.').next().unwrap_or_default()) {
                let text = |value: Option<&String>| value.map_or_else(|| "its default".to_owned(), Clone::clone);
                return Err(other(key, text(before), text(now)));
            }
        }
        let path = self.path.join("run.json");
        if let Ok(text) = fs::read_to_string(&path) {
            let run: RunJson = serde_json::from_str(&text).map_err(|error| RunError::file(&path, error.to_string()))?;
            if run.data_sha256 != data.sha256() {
                return Err(other("the data's SHA-256", run.data_sha256, data.sha256().to_owned()));
            }
        }
        Ok(())
    }
}

/// Settings as `section.key` and value.
fn flat(config: &TrainConfig) -> Result<BTreeMap<String, String>, RunError> {
    fn walk(prefix: &str, table: &Table, into: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Table(inner) => walk(&name, inner, into),
                value => {
                    into.insert(name, value.to_string());
                }
            }
        }
    }
    let text = config.to_toml()?;
    let failed = |error: toml::de::Error| RunError::file(Path::new("config.toml"), error.to_string());
    let table: Table = text.parse().map_err(failed)?;
    let mut into = BTreeMap::new();
    walk("", &table, &mut into);
    Ok(into)
}
