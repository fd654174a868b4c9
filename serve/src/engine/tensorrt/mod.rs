//! TensorRT without ONNX Runtime: plans built ahead of time, which needs no GPU, and run on one. The only module that names
//! `trtx` and `cudarc`, and only with the feature `tensorrt`.
//!
//! TensorRT-RTX is opened at run time from its kit ([`Kit::TensorRt`]).

#[cfg(feature = "tensorrt")]
mod build;
#[cfg(feature = "tensorrt")]
mod library;
mod plan;
#[cfg(feature = "tensorrt")]
mod run;

use super::{Engine, EngineError, EngineSettings};
use crate::model::Model;
#[cfg(feature = "tensorrt")]
use crate::runtime::{self, Kit};

pub use plan::{Plan, PlanCard};

/// Whether this program was built with TensorRT.
pub const BUILT_IN: bool = cfg!(feature = "tensorrt");

/// Name of the engine.
#[cfg(feature = "tensorrt")]
const NAME: &str = "tensorrt";

/// Builds a plan of `model` with an optimisation profile for each of `batches`. Needs no GPU and no driver.
///
/// # Errors
/// TensorRT is not built in or not installed, or refuses the graph.
#[cfg(feature = "tensorrt")]
pub fn build_plan(model: &Model, batches: &[usize], settings: &EngineSettings) -> Result<Plan, EngineError> {
    library::load(&settings.runtime)?;
    let bytes = build::build(model, batches)?;
    Ok(Plan::new(bytes, &model.sha256, runtime::TENSORRT_RTX_VERSION, batches))
}

/// As above, for a program without TensorRT: always an error.
///
/// # Errors
/// TensorRT is not built in.
#[cfg(not(feature = "tensorrt"))]
pub fn build_plan(_model: &Model, _batches: &[usize], _settings: &EngineSettings) -> Result<Plan, EngineError> {
    Err(absent())
}

/// Opens `model` in TensorRT: with the plan that the settings name, else with one from the cache, else with one that is
/// built now and kept there.
#[cfg(feature = "tensorrt")]
pub(super) fn open(
    model: &Model,
    settings: &EngineSettings,
    notify: &dyn Fn(&str),
) -> Result<Box<dyn Engine>, EngineError> {
    use super::cache::CacheKey;
    use super::profile::batch_sizes;

    library::load(&settings.runtime)?;
    library::check_gpu(settings.provider.device)?;
    let version = runtime::TENSORRT_RTX_VERSION;
    if let Some(path) = &settings.plan {
        let plan = Plan::read(path, &model.sha256, version)?;
        return Ok(Box::new(run::TensorRt::load(model, &plan, settings)?));
    }
    let batches = batch_sizes(settings.max_batch);
    let gpus = runtime::gpus();
    let gpu = gpus.iter().find(|gpu| gpu.index == settings.provider.device);
    let largest = batches.last().copied().unwrap_or(1);
    let key = CacheKey {
        model: &model.sha256,
        gpu,
        versions: vec![("tensorrt-rtx", version.to_owned()), ("batch", largest.to_string())],
    };
    let path = match &settings.runtime.cache {
        Some(cache) => Some(key.folder(cache)?.join("model.plan")),
        None => None,
    };
    if let Some(plan) = path.as_ref().and_then(|path| Plan::read(path, &model.sha256, version).ok()) {
        tracing::info!(path = %path.unwrap_or_default().display(), "plan from the cache");
        return Ok(Box::new(run::TensorRt::load(model, &plan, settings)?));
    }
    notify(&format!("building a plan with {} for batches {batches:?}", Kit::TensorRt));
    let plan = build_plan(model, &batches, settings)?;
    if let Some(path) = path {
        plan.write(&path)?;
    }
    Ok(Box::new(run::TensorRt::load(model, &plan, settings)?))
}

#[cfg(not(feature = "tensorrt"))]
pub(super) fn open(
    _model: &Model,
    _settings: &EngineSettings,
    _notify: &dyn Fn(&str),
) -> Result<Box<dyn Engine>, EngineError> {
    Err(absent())
}

#[cfg(not(feature = "tensorrt"))]
fn absent() -> EngineError {
    EngineError::TensorRt(
        "this program was built without it: `cargo build --release --features tensorrt` (needs libclang-dev)"
            .to_owned(),
    )
}
