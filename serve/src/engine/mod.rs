//! Engines: what turns noise, style, class and alpha into images.
//!
//! The rest of the crate knows [`Engine`] only; each runtime stays behind the one file that names it.

mod onnxruntime;
mod rten;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use drifting_spec::{GeneratorConfig, Inputs, names};
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

/// Name and dimensions of every input behind the batch, in the order in which the engines are given them.
fn interface(config: &GeneratorConfig) -> Vec<(&'static str, Vec<usize>)> {
    let image = config.image;
    let noise = (names::NOISE, vec![image.channels, image.height, image.width]);
    let style = (config.style_tokens > 0).then(|| (names::STYLE, vec![config.style_tokens]));
    let rest = [(names::CLASS, vec![]), (names::ALPHA, vec![])];
    std::iter::once(noise).chain(style).chain(rest).collect()
}

/// Compares the inputs that a graph declares (dimensions behind the batch, `None` where symbolic) with the manifest's.
fn check_interface(
    config: &GeneratorConfig,
    declared: &[(String, Vec<Option<usize>>)],
    outputs: &[String],
) -> Result<(), EngineError> {
    let expected = interface(config);
    for (name, dimensions) in &expected {
        let Some((_, found)) = declared.iter().find(|(declared, _)| declared == name) else {
            return Err(EngineError::Interface(format!("it has no input {name:?}")));
        };
        let fits = found.len() == dimensions.len()
            && found.iter().zip(dimensions).all(|(found, expected)| found.is_none_or(|found| found == *expected));
        if !fits {
            let problem = format!("input {name:?} is {found:?} behind the batch, the manifest says {dimensions:?}");
            return Err(EngineError::Interface(problem));
        }
    }
    if let Some((name, _)) = declared.iter().find(|(name, _)| !expected.iter().any(|(known, _)| known == name)) {
        return Err(EngineError::Interface(format!("it has an input {name:?} that the manifest does not know")));
    }
    if !outputs.iter().any(|output| output == names::IMAGE) {
        return Err(EngineError::Interface(format!("it has no output {:?}", names::IMAGE)));
    }
    Ok(())
}

/// Checks the lengths of a batch's inputs, so that no engine is handed a tensor that does not fit.
fn check_inputs(engine: &'static str, config: &GeneratorConfig, inputs: &Inputs) -> Result<(), EngineError> {
    let batch = inputs.batch();
    let lengths = [
        (names::NOISE, inputs.noise.len(), batch * config.image.len()),
        (names::STYLE, inputs.style.len(), batch * config.style_tokens),
        (names::ALPHA, inputs.alpha.len(), batch),
    ];
    let wrong = lengths.iter().find(|(_, found, expected)| found != expected);
    match wrong {
        _ if batch == 0 => Err(EngineError::Run { engine, problem: "an empty batch".to_owned() }),
        Some((name, found, expected)) => {
            let problem = format!("input {name:?} has {found} numbers, a batch of {batch} needs {expected}");
            Err(EngineError::Run { engine, problem })
        }
        None => Ok(()),
    }
}

/// Checks the length of a batch's output.
fn check_output(config: &GeneratorConfig, batch: usize, found: usize) -> Result<(), EngineError> {
    let expected = batch * config.image.len();
    if found == expected {
        return Ok(());
    }
    Err(EngineError::Interface(format!("its output has {found} numbers for {batch} images, not {expected}")))
}

#[cfg(test)]
mod tests {
    use drifting_spec::ImageShape;

    use super::*;

    fn config() -> GeneratorConfig {
        let image = ImageShape { channels: 1, height: 4, width: 4 };
        GeneratorConfig { style_tokens: 2, ..GeneratorConfig::new(image, 2, 8, 1, 1, 3) }
    }

    fn declared() -> Vec<(String, Vec<Option<usize>>)> {
        let owned =
            |(name, dimensions): (&str, Vec<usize>)| (name.to_owned(), dimensions.into_iter().map(Some).collect());
        interface(&config()).into_iter().map(owned).collect()
    }

    #[test]
    fn choices_go_by_name() {
        for name in EngineChoice::NAMES {
            assert_eq!(name.parse::<EngineChoice>().unwrap().to_string(), name);
        }
        assert!("ort".parse::<EngineChoice>().unwrap_err().contains("onnxruntime"));
    }

    #[test]
    fn a_graph_must_fit_its_manifest() {
        let image = [names::IMAGE.to_owned()];
        let problem = |declared: &[_], outputs: &[String]| match check_interface(&config(), declared, outputs) {
            Err(error) => error.to_string(),
            Ok(()) => String::new(),
        };
        assert_eq!(problem(&declared(), &image), "");
        assert!(problem(&declared()[1..], &image).contains("no input \"noise\""));
        assert!(problem(&declared(), &[]).contains("no output \"image\""));
        let mut wider = declared();
        wider[0].1[2] = Some(5);
        assert!(problem(&wider, &image).contains("\"noise\" is"));
        wider[0].1[2] = None;
        assert_eq!(problem(&wider, &image), "");
        wider.push(("steps".to_owned(), vec![]));
        assert!(problem(&wider, &image).contains("\"steps\""));
    }

    #[test]
    fn a_batch_must_fit_the_model() {
        let inputs = Inputs::seeded(&config(), 1, &[(0, 1.0), (1, 1.0)]);
        assert!(check_inputs("test", &config(), &inputs).is_ok());
        let short = Inputs { style: vec![0], ..inputs };
        assert!(check_inputs("test", &config(), &short).unwrap_err().to_string().contains("\"style\" has 1"));
        assert!(check_inputs("test", &config(), &Inputs::default()).is_err());
        assert!(check_output(&config(), 2, 31).is_err());
    }
}
