//! Networks of one input in ONNX Runtime.

use std::path::Path;

use ort::ep::CPU;
use ort::session::Session;

use ort::value::{DynValue, TensorElementType, TensorRef};

use super::NAME;
use super::library::load;
use super::session::general;
use crate::engine::interface::numbers;
use crate::engine::network::Network;
use crate::engine::{EngineError, EngineInfo, EngineSettings, Provider};
use crate::runtime::Library;

/// A network in ONNX Runtime.
pub(in crate::engine) struct OnnxRuntimeNetwork {
    session: Session,
    info: EngineInfo,
}

impl OnnxRuntimeNetwork {
    /// Loads `library` and then the network at `path` into it.
    ///
    /// # Errors
    /// The library cannot be loaded or refuses the graph.
    pub(in crate::engine) fn load(
        path: &Path,
        library: &Library,
        settings: &EngineSettings,
    ) -> Result<Self, EngineError> {
        let loaded = load(&library.path)?;
        let threads = settings.thread_count();
        let open = || -> ort::Result<Session> {
            let builder = general(Session::builder(&loaded.environment)?, threads)?;
            let cpu = CPU::default().with_arena_allocator(true).build().error_on_failure();
            builder.with_execution_providers([cpu])?.commit_from_file(path)
        };
        let session = open().map_err(|error| EngineError::Load { engine: NAME, problem: error.to_string() })?;
        let info = EngineInfo {
            name: NAME,
            version: loaded.version.clone(),
            provider: Provider::Cpu.title(),
            threads,
            library: Some(loaded.library.clone()),
            fallback: None,
        };
        Ok(Self { session, info })
    }
}

impl Network for OnnxRuntimeNetwork {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(&mut self, shape: &[usize], input: &[f32], outputs: &[String]) -> Result<Vec<Vec<f32>>, EngineError> {
        let failed = |error: ort::Error| EngineError::Run { engine: NAME, problem: error.to_string() };
        let input = TensorRef::from_array_view((shape.to_vec(), input)).map_err(failed)?;
        let found = self.session.run(ort::inputs![input]).map_err(failed)?;
        let output = |name: &String| {
            let value = found.get(name).ok_or_else(|| EngineError::Interface(format!("it has no output {name:?}")))?;
            values(value).map_err(failed)
        };
        outputs.iter().map(output).collect()
    }
}

fn values(value: &DynValue) -> ort::Result<Vec<f32>> {
    Ok(match value.dtype().tensor_type() {
        Some(TensorElementType::Uint8) => numbers(value.try_extract_tensor::<u8>()?.1),
        _ => value.try_extract_tensor::<f32>()?.1.to_vec(),
    })
}
