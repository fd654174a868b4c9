//! ONNX Runtime, loaded from a shared library at run time. The only file that names `ort`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use drifting_spec::{GeneratorConfig, Inputs, names};
use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::ep::CPU;
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, TensorRef};

use super::interface::{check_inputs, check_interface, check_output, interface};
use super::{Engine, EngineError, EngineInfo};
use crate::model::Model;

const NAME: &str = "onnxruntime";
const PROVIDER: &str = "CPUExecutionProvider";

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
    environment: Environment,
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

/// A generator in ONNX Runtime.
pub(super) struct OnnxRuntime {
    session: Session,
    config: GeneratorConfig,
    info: EngineInfo,
}

impl OnnxRuntime {
    /// Loads the library and then `model` into it.
    ///
    /// # Errors
    /// The library cannot be loaded, refuses the graph, or the graph does not fit the manifest.
    pub(super) fn load(model: &Model, library: &Path, threads: usize) -> Result<Self, EngineError> {
        let Loaded { environment, library, version, .. } = load(library)?;
        let refused = |error: ort::Error| EngineError::Load { engine: NAME, problem: error.to_string() };
        let builder = Session::builder(&environment).map_err(refused)?;
        let mut builder = configure(builder, threads).map_err(refused)?;
        let session = match &model.path {
            Some(path) => builder.commit_from_file(path),
            None => builder.commit_from_memory(&model.bytes),
        }
        .map_err(refused)?;
        let config = model.manifest.generator.clone();
        let declared: Vec<_> = session.inputs().iter().map(declared).collect();
        let outputs: Vec<_> = session.outputs().iter().map(|output| output.name().to_owned()).collect();
        check_interface(&config, &declared, &outputs)?;
        let info =
            EngineInfo { name: NAME, version, provider: PROVIDER, threads, library: Some(library), fallback: None };
        Ok(Self { session, config, info })
    }
}

/// The CPU provider or an error, all threads for one operator, and kernels whose result does not vary from run to run.
fn configure(builder: SessionBuilder, threads: usize) -> ort::Result<SessionBuilder> {
    let cpu = CPU::default().with_arena_allocator(true).build().error_on_failure();
    let builder = builder.with_execution_providers([cpu])?.with_intra_threads(threads)?;
    Ok(builder.with_deterministic_compute(true)?.with_log_level(LogLevel::Warning)?)
}

/// An input's name and its dimensions behind the batch.
fn declared(input: &Outlet) -> (String, Vec<Option<usize>>) {
    let shape = input.dtype().tensor_shape();
    let dimensions = shape.map(|shape| shape.iter().skip(1).map(|&size| usize::try_from(size).ok()).collect());
    (input.name().to_owned(), dimensions.unwrap_or_default())
}

impl Engine for OnnxRuntime {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
        let failed = |error: ort::Error| EngineError::Run { engine: NAME, problem: error.to_string() };
        check_inputs(NAME, &self.config, inputs)?;
        let batch = inputs.batch();
        let mut feed: Vec<(&str, SessionInputValue)> = Vec::new();
        for (name, dimensions) in interface(&self.config) {
            let shape: Vec<usize> = std::iter::once(batch).chain(dimensions).collect();
            let value = match name {
                names::NOISE => TensorRef::from_array_view((shape, &inputs.noise[..])).map(Into::into),
                names::ALPHA => TensorRef::from_array_view((shape, &inputs.alpha[..])).map(Into::into),
                names::STYLE => TensorRef::from_array_view((shape, &inputs.style[..])).map(Into::into),
                _ => TensorRef::from_array_view((shape, &inputs.class[..])).map(Into::into),
            };
            feed.push((name, value.map_err(failed)?));
        }
        let outputs = self.session.run(feed).map_err(failed)?;
        let missing = || EngineError::Interface(format!("it has no output {:?}", names::IMAGE));
        let (_, image) = outputs.get(names::IMAGE).ok_or_else(missing)?.try_extract_tensor::<f32>().map_err(failed)?;
        check_output(&self.config, batch, image.len())?;
        Ok(image.to_vec())
    }
}
