//! Engines: what turns noise, style, class and alpha into images.
//!
//! The rest of the crate knows [`Engine`] only; each runtime stays behind the one file that names it.

mod cache;
mod guard;
mod interface;
mod missing;
mod network;
mod onnxruntime;
mod padded;
mod profile;
mod provider;
mod rten;
mod tensorrt;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use drifting_spec::Inputs;
use serde::Serialize;

use crate::model::Model;
use crate::runtime::{self, RuntimeSettings};

pub use guard::run;
pub(crate) use missing::{missing_library, remedy};
pub use network::{Network, open_network};
pub(crate) use onnxruntime::open_library;
pub use onnxruntime::{Loaded, load as load_onnxruntime};
pub use profile::batch_sizes;
pub use provider::{Precision, Provider, ProviderSettings};
pub use rten::VERSION as RTEN_VERSION;
pub use tensorrt::{BUILT_IN as TENSORRT_BUILT_IN, Plan, PlanCard, build_plan};

/// A generator that was loaded and can be run.
pub trait Engine: Send {
    /// Which engine this is.
    fn info(&self) -> &EngineInfo;

    /// The only batch size that the graph computes; any if there is none.
    fn fixed_batch(&self) -> Option<usize> {
        None
    }

    /// Runs one batch; returns the images as `[batch, channels, height, width]` in row-major order, black and
    /// white as [`Manifest::output_range`](drifting_spec::Manifest::output_range) says.
    ///
    /// # Errors
    /// Inputs that do not fit the model, and whatever the engine reports.
    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError>;
}

/// What `/info`, the log and the response headers tell about the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// `onnxruntime`, `rten` or `tensorrt`.
    pub name: &'static str,
    /// Version of the library in use.
    pub version: String,
    /// The execution provider that computes.
    pub provider: &'static str,
    /// Threads that compute one batch.
    pub threads: usize,
    /// The shared library, if the engine is one.
    pub library: Option<PathBuf>,
    /// Why the preferred engine is not the one in use.
    pub fallback: Option<String>,
}

impl fmt::Display for EngineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.name, self.version, self.provider)
    }
}

/// The engine that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// ONNX Runtime; where it cannot be had, rten, and that is said aloud.
    #[default]
    Auto,
    /// ONNX Runtime or an error.
    OnnxRuntime,
    /// rten, which is compiled in.
    Rten,
    /// TensorRT without ONNX Runtime, with the feature `tensorrt`.
    TensorRt,
}

impl EngineChoice {
    /// The names that [`EngineChoice::from_str`] knows.
    pub const NAMES: [&'static str; 4] = ["auto", "onnxruntime", "rten", "tensorrt"];
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "onnxruntime" => Ok(Self::OnnxRuntime),
            "rten" => Ok(Self::Rten),
            "tensorrt" => Ok(Self::TensorRt),
            _ => Err(format!("no engine is called {name:?}: {} are", Self::NAMES.join(", "))),
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

/// An engine that cannot be loaded or run, and why.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// ONNX Runtime was asked for and is not there.
    #[error("ONNX Runtime is not available: {0}")]
    Library(String),
    /// The execution provider that was asked for is not there.
    #[error("the execution provider {provider} cannot be used: {problem}; {remedy}")]
    Provider {
        /// The provider.
        provider: Provider,
        /// What is missing.
        problem: String,
        /// What mends it.
        remedy: String,
    },
    /// The settings ask for what no engine does.
    #[error("{0}")]
    Settings(String),
    /// The cache of built engines cannot be used.
    #[error("{}: {source}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// TensorRT was asked for and is not there.
    #[error("TensorRT is not available: {0}")]
    TensorRt(String),
    /// A plan of TensorRT that is of no use here.
    #[error("{}: {problem}; build it again with `drifting export --target tensorrt`", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The engine refuses the model.
    #[error("{engine} cannot load the model: {problem}")]
    Load {
        /// The engine's name.
        engine: &'static str,
        /// What it reports.
        problem: String,
    },
    /// The file is no longer the one that was checked and hashed.
    #[error("the model's file changed while it was loaded; load it again")]
    Changed,
    /// The graph's inputs or output are not those of its manifest.
    #[error("the model's graph does not fit its manifest: {0}; export it again")]
    Interface(String),
    /// An image holds NaN or infinite numbers.
    #[error("the model's image holds numbers that are not finite: its weights are damaged; export it again")]
    NotFinite,
    /// A batch failed.
    #[error("{engine} failed: {problem}")]
    Run {
        /// The engine's name.
        engine: &'static str,
        /// What it reports.
        problem: String,
    },
}

/// How an engine is chosen and set up.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The engine that was asked for.
    pub choice: EngineChoice,
    /// What computes within ONNX Runtime.
    pub provider: ProviderSettings,
    /// Threads that compute one batch; all processors when none is given.
    pub threads: Option<NonZeroUsize>,
    /// The plan of TensorRT to run, in place of one from the cache.
    pub plan: Option<PathBuf>,
    /// Images in the largest batch that will be run; what is built ahead for a GPU is built for it.
    pub max_batch: usize,
    /// Where libraries are looked for.
    pub runtime: RuntimeSettings,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            choice: EngineChoice::default(),
            provider: ProviderSettings::default(),
            threads: None,
            plan: None,
            max_batch: 8,
            runtime: RuntimeSettings::default(),
        }
    }
}

impl EngineSettings {
    /// Whether no GPU is asked for.
    fn on_the_processor(&self) -> bool {
        self.choice != EngineChoice::TensorRt && self.provider.provider == Provider::Cpu
    }

    /// Threads that compute one batch.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }
}

/// Loads `model` into the engine that `settings` choose. `notify` is told before anything is fetched. A model of one batch
/// size runs any number of images: batches are filled up.
///
/// # Errors
/// The chosen engine or its execution provider is not there (what was asked for by name is never replaced), contradicting
/// settings, or a model that the engine refuses.
pub fn open(model: &Model, settings: &EngineSettings, notify: &dyn Fn(&str)) -> Result<Box<dyn Engine>, EngineError> {
    let half = model.profile.as_deref().filter(|profile| matches!(*profile, "fp16" | "bf16"));
    if let Some(profile) = half.filter(|_| settings.on_the_processor()) {
        tracing::warn!(profile, "made for GPUs: on a processor the profiles portable, ort and int8 are faster");
    }
    let engine = guard::load(|| load(model, settings, notify))?;
    if !model.source.is_unchanged() {
        return Err(EngineError::Changed);
    }
    Ok(padded::Padded::wrap(engine, &model.manifest.generator))
}

fn load(model: &Model, settings: &EngineSettings, notify: &dyn Fn(&str)) -> Result<Box<dyn Engine>, EngineError> {
    if settings.choice == EngineChoice::TensorRt {
        settings.provider.check_tensorrt().map_err(EngineError::Settings)?;
        return tensorrt::open(model, settings, notify);
    }
    settings.provider.check().map_err(EngineError::Settings)?;
    let named = settings.provider.provider != Provider::Cpu;
    let threads = settings.thread_count();
    let reason = match settings.choice {
        EngineChoice::Rten if named => {
            let problem = format!("--provider {} belongs to --engine onnxruntime", settings.provider.provider);
            return Err(EngineError::Settings(problem));
        }
        EngineChoice::Rten | EngineChoice::TensorRt => None,
        EngineChoice::OnnxRuntime => return open_onnxruntime(model, settings, notify),
        EngineChoice::Auto => match open_onnxruntime(model, settings, notify) {
            // A model that ONNX Runtime refuses is an error, and so is a provider that was asked for: only a missing
            // library is a reason for another engine.
            Err(error @ EngineError::Library(_)) if !named => Some(error.to_string()),
            other => return other,
        },
    };
    if let Some(reason) = &reason {
        tracing::warn!(%reason, "serving with rten instead");
    }
    Ok(Box::new(rten::Rten::load(model, threads, reason)?))
}

fn open_onnxruntime(
    model: &Model,
    settings: &EngineSettings,
    notify: &dyn Fn(&str),
) -> Result<Box<dyn Engine>, EngineError> {
    let kit = settings.provider.provider.kit();
    let library = runtime::find(kit, &settings.runtime, notify);
    let library = library.map_err(|error| EngineError::Library(error.to_string()))?;
    Ok(Box::new(onnxruntime::OnnxRuntime::load(model, &library, settings)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_go_by_name() {
        for name in EngineChoice::NAMES {
            assert_eq!(name.parse::<EngineChoice>().unwrap().to_string(), name);
        }
        assert!("ort".parse::<EngineChoice>().unwrap_err().contains("onnxruntime"));
    }
}
