//! TensorRT-RTX's two libraries, opened at run time, and its messages in our log.

use std::sync::OnceLock;

use trtx::{LogHandler, Logger, Severity};

use crate::engine::missing::{missing_library, remedy};
use crate::engine::{EngineError, open_library};
use crate::runtime::{Kit, RuntimeSettings, TENSORRT_RTX, TENSORRT_RTX_PARSER};

/// The last error that TensorRT logged: its functions return only that they failed.
static LAST_ERROR: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

struct Log;

impl LogHandler for Log {
    fn log(&self, severity: Severity, message: &str) {
        match severity {
            Severity::Verbose | Severity::Info => tracing::debug!(target: "tensorrt", "{message}"),
            Severity::Warning => tracing::warn!(target: "tensorrt", "{message}"),
            Severity::Error | Severity::InternalError => {
                tracing::debug!(target: "tensorrt", "{message}");
                message.clone_into(&mut LAST_ERROR.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
            }
        }
    }
}

/// Opens the libraries of the kit.
///
/// # Errors
/// The kit is not installed, or a library does not open.
pub(super) fn load(settings: &RuntimeSettings) -> Result<(), EngineError> {
    let kit = Kit::TensorRt;
    let folder = settings.kit_folder(kit).filter(|folder| kit.is_complete(folder));
    let absent = || EngineError::TensorRt(format!("{kit} is not installed: `{}` installs it", kit.command()));
    let folder = folder.ok_or_else(absent)?;
    let failed = |error: trtx::Error| EngineError::TensorRt(error.to_string());
    trtx::dynamically_load_tensorrt(Some(folder.join(TENSORRT_RTX))).map_err(failed)?;
    trtx::dynamically_load_tensorrt_onnxparser(Some(folder.join(TENSORRT_RTX_PARSER))).map_err(failed)
}

/// Checks that there is a driver and a GPU of this number, before anything is built for it.
///
/// # Errors
/// The driver's library is not there, or knows no such GPU.
pub(super) fn check_gpu(device: u32) -> Result<(), EngineError> {
    // cudarc panics where the driver's library is not there.
    open_library("libcuda.so.1").map_err(|problem| {
        let remedy = missing_library(&problem).and_then(remedy).unwrap_or_default();
        EngineError::TensorRt(format!("{problem}; {remedy}"))
    })?;
    let count = cudarc::driver::CudaContext::device_count().unwrap_or(0);
    if i64::from(device) < i64::from(count) {
        return Ok(());
    }
    Err(EngineError::TensorRt(format!("the driver knows {count} GPUs here, and none of number {device}")))
}

/// The logger of this process.
pub(super) fn logger() -> Result<&'static Logger, EngineError> {
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    if let Some(logger) = LOGGER.get() {
        return Ok(logger);
    }
    let logger = Logger::new(Log).map_err(|error| EngineError::TensorRt(error.to_string()))?;
    Ok(LOGGER.get_or_init(|| logger))
}

/// What TensorRT last complained about, else `error`.
pub(super) fn reason(error: &trtx::Error) -> String {
    let mut last = LAST_ERROR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let told = std::mem::take(&mut *last);
    if told.is_empty() { error.to_string() } else { format!("{error}: {told}") }
}
