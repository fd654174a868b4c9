//! A session with the execution provider that was asked for, or an error that says what is missing.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::device::Device;
use ort::ep::{ArbitrarilyConfigurableExecutionProvider, CPU, CUDA, ExecutionProviderDispatch, TensorRT};
use ort::logging::LogLevel;
use ort::memory::DeviceType;
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use super::NAME;
use super::library::{Loaded, open_library};
use super::options::{self, Options};
use crate::engine::cache::CacheKey;
use crate::engine::interface::interface;
use crate::engine::missing::{missing_library, remedy};
use crate::engine::profile::{Profile, batch_sizes};
use crate::engine::provider::{Provider, ProviderSettings};
use crate::engine::{EngineError, EngineSettings};
use crate::model::{Model, Source};
use crate::runtime::{self, Kit, LIBRARY_VARIABLE};

/// The plug-in that was registered with this process's environment.
static PLUGIN: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Opens a session for `model`.
pub(super) fn open(loaded: &Loaded, model: &Model, settings: &EngineSettings) -> Result<Session, EngineError> {
    let refused = |error: ort::Error| EngineError::Load { engine: NAME, problem: error.to_string() };
    let builder = Session::builder(&loaded.environment).map_err(refused)?;
    let builder = general(builder, settings.thread_count()).map_err(refused)?;
    let mut builder = with_provider(builder, loaded, model, settings)?;
    let session = match &model.source {
        Source::File { path, .. } => builder.commit_from_file(path),
        Source::Bytes(bytes) => builder.commit_from_memory(bytes),
    };
    session.map_err(|error| match settings.provider.provider {
        // Some libraries are opened only when the session is made.
        provider if missing_library(error.message()).is_some() => unavailable(provider, settings, error.message()),
        _ => refused(error),
    })
}

/// All threads for one operator, and kernels whose result does not vary from run to run.
pub(super) fn general(builder: SessionBuilder, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = builder.with_intra_threads(threads)?;
    Ok(builder.with_deterministic_compute(true)?.with_log_level(LogLevel::Warning)?)
}

fn with_provider(
    builder: SessionBuilder,
    loaded: &Loaded,
    model: &Model,
    settings: &EngineSettings,
) -> Result<SessionBuilder, EngineError> {
    let ProviderSettings { provider, .. } = settings.provider;
    let failed = |problem: &str| unavailable(provider, settings, problem);
    if provider == Provider::TensorRtRtx {
        return with_plugin(builder, loaded, model, settings);
    }
    preload(provider, settings);
    let providers: Vec<ExecutionProviderDispatch> = match provider {
        Provider::Cuda => vec![cuda(&options::cuda(&settings.provider))],
        Provider::TensorRt => {
            let cache = engine_cache(loaded, model, settings)?;
            let options = options::tensorrt(&settings.provider, &profile(model, settings), cache.as_deref());
            vec![tensorrt(&options), cuda(&options::cuda_beside_tensorrt(&settings.provider))]
        }
        _ => vec![CPU::default().with_arena_allocator(true).build()],
    };
    let providers: Vec<_> = providers.into_iter().map(ExecutionProviderDispatch::error_on_failure).collect();
    builder.with_execution_providers(providers).map_err(|error| failed(error.message()))
}

fn cuda(options: &Options) -> ExecutionProviderDispatch {
    options.iter().fold(CUDA::default(), |ep, (key, value)| ep.with_arbitrary_config(key, value)).build()
}

fn tensorrt(options: &Options) -> ExecutionProviderDispatch {
    options.iter().fold(TensorRT::default(), |ep, (key, value)| ep.with_arbitrary_config(key, value)).build()
}

/// The shapes of the batches that a server may use.
fn profile(model: &Model, settings: &EngineSettings) -> Profile {
    let inputs = interface(&model.manifest.generator);
    let inputs = inputs.into_iter().map(|(name, dimensions)| (name.to_owned(), dimensions)).collect();
    Profile::new(inputs, &batch_sizes(settings.max_batch))
}

/// Loads the provider's libraries from their kit, where they are, so that the linker finds them by name.
fn preload(provider: Provider, settings: &EngineSettings) {
    let kits: &[Kit] = match provider {
        Provider::Cpu => &[],
        Provider::Cuda | Provider::TensorRt => &[Kit::Cuda],
        Provider::TensorRtRtx => &[Kit::TensorRt],
    };
    for &kit in kits {
        let Some(folder) = settings.runtime.kit_folder(kit) else { continue };
        let needed = kit.libraries().into_iter().filter(|name| !name.starts_with("libonnxruntime"));
        for path in needed.map(|name| folder.join(name)).filter(|path| path.is_file()) {
            if let Err(problem) = open_library(&path) {
                // What is really missing is told by the provider itself.
                tracing::debug!(library = %path.display(), problem, "not loaded");
            }
        }
    }
}

/// The folder for engines of this model on this GPU with these versions; none without a cache.
fn engine_cache(loaded: &Loaded, model: &Model, settings: &EngineSettings) -> Result<Option<PathBuf>, EngineError> {
    let Some(cache) = &settings.runtime.cache else { return Ok(None) };
    let gpus = runtime::gpus();
    let gpu = gpus.iter().find(|gpu| gpu.index == settings.provider.device);
    let mut versions = vec![("onnxruntime", loaded.version.clone())];
    match settings.provider.provider {
        Provider::TensorRtRtx => versions.push(("tensorrt-rtx", runtime::TENSORRT_RTX_VERSION.to_owned())),
        // The full version stands in the name of the file that the linker took.
        _ => versions.push(("tensorrt", tensorrt_version(settings)?)),
    }
    CacheKey { model: &model.sha256, gpu, versions }.folder(cache).map(Some)
}

/// Loads TensorRT 10 and tells its version.
fn tensorrt_version(settings: &EngineSettings) -> Result<String, EngineError> {
    const LIBRARY: &str = "libnvinfer.so.10";
    open_library(LIBRARY).map_err(|problem| unavailable(Provider::TensorRt, settings, &problem))?;
    let name = runtime::mapped(LIBRARY).and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let version = name.and_then(|name| Some(name.strip_prefix("libnvinfer.so.")?.to_owned()));
    Ok(version.unwrap_or_else(|| "10".to_owned()))
}

/// TensorRT-RTX is a plug-in: its devices are listed by the environment once its library is registered.
fn with_plugin(
    builder: SessionBuilder,
    loaded: &Loaded,
    model: &Model,
    settings: &EngineSettings,
) -> Result<SessionBuilder, EngineError> {
    let provider = Provider::TensorRtRtx;
    let failed = |problem: &str| unavailable(provider, settings, problem);
    let folder = settings.runtime.kit_folder(Kit::TensorRt).filter(|folder| Kit::TensorRt.is_complete(folder));
    let folder = folder.ok_or_else(|| failed(&format!("{} is not installed", Kit::TensorRt)))?;
    preload(provider, settings);
    register(loaded, &folder.join(runtime::PLUGIN)).map_err(|problem| failed(&problem))?;
    let devices: Vec<Device<'_>> = loaded.environment.devices().filter(is_ours).collect();
    let (device, count) = (settings.provider.device as usize, devices.len());
    let chosen = devices.into_iter().nth(device);
    let chosen = chosen.ok_or_else(|| failed(&format!("it knows {count} GPUs here, and none of number {device}")))?;
    let cache = engine_cache(loaded, model, settings)?;
    let options = options::tensorrt_rtx(&settings.provider, &profile(model, settings), cache.as_deref());
    let options = options::prefixed(options, provider.title());
    builder.with_devices([chosen], Some(&options)).map_err(|error| failed(error.message()))
}

fn is_ours(device: &Device<'_>) -> bool {
    device.ep().is_ok_and(|name| name == Provider::TensorRtRtx.title())
        && device.hardware_device().ty() == DeviceType::GPU
}

/// Registers the plug-in with the environment, once in a process.
fn register(loaded: &Loaded, library: &Path) -> Result<(), String> {
    let mut registered = PLUGIN.lock().unwrap_or_else(PoisonError::into_inner);
    if registered.as_deref() == Some(library) {
        return Ok(());
    }
    let name = Provider::TensorRtRtx.title();
    loaded.environment.register_ep_library(name, library).map_err(|error| error.message().to_owned())?;
    *registered = Some(library.to_owned());
    Ok(())
}

/// The error for a provider that was asked for and cannot be used.
fn unavailable(provider: Provider, settings: &EngineSettings, problem: &str) -> EngineError {
    let known = missing_library(problem).and_then(remedy);
    let mut remedy = known.unwrap_or_else(|| provider.remedy().to_owned());
    if settings.runtime.library.is_some() && provider.kit() != Kit::OnnxRuntime {
        remedy +=
            &format!("; {LIBRARY_VARIABLE} must be unset, or name an ONNX Runtime that was built with {provider}");
    }
    EngineError::Provider { provider, problem: problem.trim().to_owned(), remedy }
}
