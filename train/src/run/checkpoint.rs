//! Checkpoints: everything that a run needs to go on, and weights that other commands take from it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use drifting_models::nn::Source;
use drifting_models::{Generator, weights};
use drifting_spec::{GeneratorConfig, Manifest, Provenance};

use super::RunError;
use crate::config::TrainConfig;
use crate::data::Dataset;
use crate::trainer::Trainer;

const MODEL: &str = "model.safetensors";
const STATE: &str = "state.safetensors";
/// Entries of a weight file's header.
const MANIFEST_ENTRY: &str = "manifest";
const CONFIG_ENTRY: &str = "config";
const STEP_ENTRY: &str = "step";

/// A folder with the weights (`model`), each moving average (`ema_DECAY`) and the optimizer (`state`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    path: PathBuf,
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
    pub(super) fn write(
        path: &Path,
        trainer: &Trainer<'_>,
        config: &TrainConfig,
        data: &Dataset,
    ) -> Result<(), RunError> {
        let beside = path.with_extension("partial");
        remove(&beside)?;
        fs::create_dir(&beside).map_err(RunError::io(&beside))?;
        let metadata = |decay: Option<f64>| -> Result<BTreeMap<String, String>, RunError> {
            let manifest = manifest(config, data, trainer.step_count(), decay);
            let json = manifest.to_json().map_err(|error| RunError::file(path, error.to_string()))?;
            Ok(BTreeMap::from([(MANIFEST_ENTRY.to_owned(), json)]))
        };
        weights::write(&beside.join(MODEL), &trainer.generator().params().tensors(), &metadata(None)?)?;
        for average in trainer.averages() {
            let file = beside.join(average_name(average.decay()));
            weights::write(&file, average.tensors(), &metadata(Some(average.decay()))?)?;
        }
        let state = trainer.optimizer_state()?;
        let about = [(STEP_ENTRY, trainer.step_count().to_string()), (CONFIG_ENTRY, config.to_toml()?)];
        let about = about.map(|(key, value)| (key.to_owned(), value));
        weights::write(&beside.join(STATE), &state, &BTreeMap::from(about))?;
        // A checkpoint of the same step can only be one that the pointer never reached.
        remove(path)?;
        fs::rename(&beside, path).map_err(RunError::io(path))?;
        let folder = path.parent().unwrap_or(path);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(RunError::io(folder))
    }

    /// Puts a new trainer into the state of this checkpoint.
    pub(super) fn restore(&self, trainer: &mut Trainer<'_>, config: &TrainConfig) -> Result<(), RunError> {
        let read = |name: &str| weights::read(&self.path.join(name), &Device::Cpu);
        let (model, mut state) = (read(MODEL)?.tensors, read(STATE)?.tensors);
        for decay in &config.ema.decays {
            let average = read(&average_name(*decay))?.tensors;
            state.extend(average.into_iter().map(|(name, tensor)| (format!("ema.{decay}.{name}"), tensor)));
        }
        Ok(trainer.restore(model, &state)?)
    }

    /// The weights that are sampled and exported: the first moving average, or the one with `decay`.
    ///
    /// # Errors
    /// A decay that the run did not track, with those that it did.
    pub fn average(&self, config: &TrainConfig, decay: Option<f64>) -> Result<ModelFile, RunError> {
        let decay = decay.or(config.ema.decays.first().copied()).unwrap_or_default();
        if !config.ema.decays.contains(&decay) {
            let problem = format!("has no moving average of decay {decay}; it has {:?}", config.ema.decays);
            return Err(RunError::file(&self.path, problem));
        }
        ModelFile::read(&self.path.join(average_name(decay)))
    }
}

/// The name of a moving average's file.
fn average_name(decay: f64) -> String {
    format!("ema_{decay}.safetensors")
}

fn remove(folder: &Path) -> Result<(), RunError> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(RunError::io(folder)) } else { Ok(()) }
}

fn manifest(config: &TrainConfig, data: &Dataset, step: u64, ema_decay: Option<f64>) -> Manifest {
    let provenance = Provenance {
        step,
        ema_decay,
        weights_sha256: String::new(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let classes = data.classes().to_vec();
    Manifest {
        classes,
        provenance,
        ..Manifest::new(config.name.clone(), config.generator.clone(), config.alpha_range())
    }
}

/// A generator's weights with what their file says about them.
#[derive(Debug)]
pub struct ModelFile {
    /// The file.
    pub path: PathBuf,
    /// Architecture, classes, alpha, origin; the hash is that of the file.
    pub manifest: Manifest,
    /// Weights by parameter name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl ModelFile {
    /// Reads a weight file of a run or one that `drifting import` wrote.
    ///
    /// # Errors
    /// A file that does not say what its weights are.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let file = weights::read(path, &Device::Cpu)?;
        let failed = |problem: String| RunError::file(path, problem);
        let mut manifest = match (file.metadata.get(MANIFEST_ENTRY), file.metadata.get(CONFIG_ENTRY)) {
            (Some(json), _) => Manifest::parse(json).map_err(|error| failed(error.to_string()))?,
            (None, Some(json)) => {
                let config: GeneratorConfig = serde_json::from_str(json).map_err(|error| failed(error.to_string()))?;
                imported(path, config, &file.metadata)
            }
            (None, None) => {
                let problem = "has no header that describes a generator; drifting train and drifting import write one";
                return Err(failed(problem.to_owned()));
            }
        };
        manifest.provenance.weights_sha256 = file.sha256;
        Ok(Self { path: path.to_owned(), manifest, tensors: file.tensors })
    }

    /// The network with these weights.
    ///
    /// # Errors
    /// Weights that do not match the architecture exactly.
    pub fn generator(&self) -> Result<Generator, RunError> {
        let source = Source::Tensors(self.tensors.clone());
        Ok(Generator::new(self.manifest.generator.clone(), source, &Device::Cpu)?)
    }
}

/// The manifest of published weights, whose alpha was drawn from 1..4 (paper A.7).
fn imported(path: &Path, config: GeneratorConfig, metadata: &BTreeMap<String, String>) -> Manifest {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let number = |key: &str| metadata.get(key).and_then(|text| text.parse::<f64>().ok());
    let alpha = drifting_spec::AlphaRange { min: 1.0, max: 4.0, default: 1.0 };
    let mut manifest = Manifest::new(name, config, alpha);
    manifest.provenance.step = number(STEP_ENTRY).unwrap_or_default() as u64;
    manifest.provenance.ema_decay = number("ema_decay");
    manifest.provenance.tool_version = env!("CARGO_PKG_VERSION").to_owned();
    manifest
}
