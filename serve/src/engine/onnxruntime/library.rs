//! The shared library of ONNX Runtime, and those that its providers need.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::engine::EngineError;

/// The one ONNX Runtime of this process: a second library cannot be loaded beside it.
static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// A loaded ONNX Runtime.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The shared library.
    pub library: PathBuf,
    /// Its version, as far as the library and its file name tell.
    pub version: String,
    /// How the library was built, in its own words.
    pub build: &'static str,
    pub(super) environment: Environment,
}

/// Loads a shared library for good, so that those loaded later find it by its name.
///
/// # Errors
/// What the dynamic linker says.
pub(crate) fn open_library(path: impl AsRef<Path>) -> Result<(), String> {
    ort::util::preload_dylib(path.as_ref())
        .map_err(|error| error.source().map_or(error.to_string(), ToString::to_string))
}

/// Loads the shared library `path`, or returns the one that this process has loaded from there before.
///
/// # Errors
/// The file is no ONNX Runtime or too old, or another library was loaded before.
pub fn load(path: &Path) -> Result<Loaded, EngineError> {
    let missing = |problem: String| EngineError::Library(format!("{}: {problem}", path.display()));
    // ort takes a relative path for one beside the executable.
    let library = path.canonicalize().map_err(|error| missing(error.to_string()))?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*loaded {
        Some(loaded) if loaded.library == library => return Ok(loaded.clone()),
        Some(other) => return Err(missing(format!("this process already uses {}", other.library.display()))),
        None => {}
    }
    let builder = ort::init_from(&library).map_err(|error| missing(reason(&error)))?;
    let environment = builder.with_name("drifting").with_telemetry(false).with_logger(Arc::new(log)).build();
    let environment = environment.map_err(|error| missing(error.to_string()))?;
    let fresh = Loaded { version: version(&library), build: ort::info(), environment, library };
    *loaded = Some(fresh.clone());
    Ok(fresh)
}

/// What the dynamic linker says, where ort's own message leaves it out.
fn reason(error: &LoadDynamicError) -> String {
    match error {
        LoadDynamicError::Dlopen { error, .. } => match error.source() {
            Some(source) => source.to_string(),
            None => error.to_string(),
        },
        other => other.to_string(),
    }
}

/// The library tells its minor version; the file name, if it agrees, the patch too.
fn version(library: &Path) -> String {
    let minor = ort::util::probe(library).map_or_else(|| "1".to_owned(), |minor| format!("1.{minor}"));
    let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let named = name.split(|c| !digits(c)).map(|part| part.trim_matches('.'));
    named
        .filter(|part| part.starts_with(&format!("{minor}.")))
        .max_by_key(|part| part.len())
        .unwrap_or(&minor)
        .to_owned()
}

/// ONNX Runtime's own messages go into our log.
fn log(level: LogLevel, _category: &str, _id: &str, place: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::debug!(target: "onnxruntime", place, "{message}"),
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", place, "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "onnxruntime", place, "{message}"),
    }
}
