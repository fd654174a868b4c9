//! Engines: what turns noise, style, class and alpha into images.
//!
//! The rest of the crate knows [`Engine`] only; each runtime stays behind the one file that names it.

mod interface;
mod onnxruntime;
mod rten;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use drifting_spec::Inputs;
use serde::Serialize;

use crate::model::Model;
use crate::runtime::{self, RuntimeSettings};

pub use onnxruntime::{Loaded, load as load_onnxruntime};
pub use rten::VERSION as RTEN_VERSION;

/// A generator that was loaded and can be run.
pub trait Engine: Send {
    /// Which engine this is.
    fn info(&self) -> &EngineInfo;

    /// Runs one batch; returns the images as `[batch, channels, height, width]` in row-major order, in the manifest's
    /// `value_range`.
    ///
    /// # Errors
    /// Inputs that do not fit the model, and whatever the engine reports.
    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError>;
}

/// What `/info`, the log and the response headers tell about the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// `onnxruntime` or `rten`.
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
}

impl EngineChoice {
    /// The names that [`EngineChoice::from_str`] knows.
    pub const NAMES: [&'static str; 3] = ["auto", "onnxruntime", "rten"];
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "onnxruntime" => Ok(Self::OnnxRuntime),
            "rten" => Ok(Self::Rten),
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
    /// The engine refuses the model.
    #[error("{engine} cannot load the model: {problem}")]
    Load {
        /// The engine's name.
        engine: &'static str,
        /// What it reports.
        problem: String,
    },
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

/// Refuses images with numbers that are not finite, which would pass for black pixels.
///
/// # Errors
/// [`EngineError::NotFinite`].
pub fn check_finite(images: &[f32]) -> Result<(), EngineError> {
    if images.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(EngineError::NotFinite) }
}

/// How an engine is chosen and set up.
#[derive(Clone, Debug, Default)]
pub struct EngineSettings {
    /// The engine that was asked for.
    pub choice: EngineChoice,
    /// Threads that compute one batch; all processors when none is given.
    pub threads: Option<NonZeroUsize>,
    /// Where ONNX Runtime is looked for.
    pub runtime: RuntimeSettings,
}

impl EngineSettings {
    /// Threads that compute one batch.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }
}

/// Loads `model` into the engine that `settings` choose. `notify` is told before anything is fetched.
///
/// # Errors
/// The chosen engine is not there (with [`EngineChoice::OnnxRuntime`]) or refuses the model.
pub fn open(model: &Model, settings: &EngineSettings, notify: &dyn Fn(&str)) -> Result<Box<dyn Engine>, EngineError> {
    let threads = settings.thread_count();
    let reason = match settings.choice {
        EngineChoice::Rten => None,
        EngineChoice::OnnxRuntime => return open_onnxruntime(model, settings, notify),
        EngineChoice::Auto => match open_onnxruntime(model, settings, notify) {
            // A model that ONNX Runtime refuses is an error: only a missing library is a reason for another engine.
            Err(error @ EngineError::Library(_)) => Some(error.to_string()),
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
    let library = runtime::find(&settings.runtime, notify).map_err(|error| EngineError::Library(error.to_string()))?;
    Ok(Box::new(onnxruntime::OnnxRuntime::load(model, &library.path, settings.thread_count())?))
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
