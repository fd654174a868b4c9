//! Networks that are no generators: one input of floats, outputs by name. `drifting export` verifies them so.

use std::path::Path;

use super::onnxruntime::OnnxRuntimeNetwork;
use super::rten::RtenNetwork;
use super::{EngineChoice, EngineError, EngineInfo, EngineSettings, Provider};
use crate::runtime;

/// A network that was loaded and can be run on the CPU.
pub trait Network: Send {
    /// Which engine this is.
    fn info(&self) -> &EngineInfo;

    /// The outputs of these names for an input of this shape, each in row-major order; levels of pixels as numbers.
    ///
    /// # Errors
    /// An input that does not fit the network, an output that it does not have, and whatever the engine reports.
    fn run(&mut self, shape: &[usize], input: &[f32], outputs: &[String]) -> Result<Vec<Vec<f32>>, EngineError>;
}

/// Loads the network at `path` into rten, or else into ONNX Runtime, on the CPU. `notify` is told before anything is
/// fetched.
///
/// # Errors
/// The engine is not there, or refuses the network.
pub fn open_network(
    path: &Path,
    settings: &EngineSettings,
    notify: &dyn Fn(&str),
) -> Result<Box<dyn Network>, EngineError> {
    if settings.choice == EngineChoice::Rten {
        return Ok(Box::new(RtenNetwork::load(path, settings.thread_count())?));
    }
    let library = runtime::find(Provider::Cpu.kit(), &settings.runtime, notify);
    let library = library.map_err(|error| EngineError::Library(error.to_string()))?;
    Ok(Box::new(OnnxRuntimeNetwork::load(path, &library, settings)?))
}
