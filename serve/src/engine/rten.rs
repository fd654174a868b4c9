//! The pure-Rust engine rten. The only file that names it.

use std::path::Path;
use std::sync::Arc;

use drifting_spec::{GeneratorConfig, Inputs, Pixels, names};
use rten::{DataType, Dimension, Model as Graph, NodeId, RunOptions, ThreadPool, Value, ValueOrView, ValueType};

use super::interface::{Output, check_inputs, check_interface, interface, numbers};
use super::network::Network;
use super::{Engine, EngineError, EngineInfo};
use crate::model::{Model, Source};

/// Version of rten that is compiled in.
pub const VERSION: &str = "0.27.0";

const NAME: &str = "rten";

/// A generator in rten.
pub(super) struct Rten {
    graph: Graph,
    inputs: Vec<NodeId>,
    output: NodeId,
    config: GeneratorConfig,
    batch: Option<usize>,
    image: Output,
    threads: Arc<ThreadPool>,
    info: EngineInfo,
}

impl Rten {
    /// Loads `model`; `fallback` says why another engine is not in use.
    ///
    /// # Errors
    /// rten refuses the graph, or it does not fit the manifest.
    pub(super) fn load(model: &Model, threads: usize, fallback: Option<String>) -> Result<Self, EngineError> {
        let refused = |problem: String| EngineError::Load { engine: NAME, problem };
        let graph = match &model.source {
            Source::File { path, .. } => Graph::load_file(path),
            Source::Bytes(bytes) => Graph::load(bytes.clone()),
        }
        .map_err(|error| refused(error.to_string()))?;
        let config = model.manifest.generator.clone();
        let outputs: Vec<String> = graph.output_ids().iter().filter_map(|&id| name_of(&graph, id)).collect();
        check_interface(&config, &declared(&graph), &outputs)?;
        let id = |name: &str| graph.node_id(name).map_err(|error| refused(error.to_string()));
        let inputs = interface(&config).iter().map(|(name, _)| id(name)).collect::<Result<_, _>>()?;
        let output = id(names::IMAGE)?;
        let info = info(threads, fallback);
        let threads = Arc::new(ThreadPool::with_num_threads(threads));
        let batch = fixed_batch(&graph);
        Ok(Self { graph, inputs, output, config, batch, image: Output::of(&model.manifest)?, threads, info })
    }
}

fn info(threads: usize, fallback: Option<String>) -> EngineInfo {
    EngineInfo { name: NAME, version: VERSION.to_owned(), provider: "rten-cpu", threads, library: None, fallback }
}

/// A network of one input in rten.
pub(super) struct RtenNetwork {
    graph: Graph,
    threads: Arc<ThreadPool>,
    info: EngineInfo,
}

impl RtenNetwork {
    /// Loads the network at `path`.
    ///
    /// # Errors
    /// rten refuses it.
    pub(super) fn load(path: &Path, threads: usize) -> Result<Self, EngineError> {
        let refused = |problem: String| EngineError::Load { engine: NAME, problem };
        let graph = Graph::load_file(path).map_err(|error| refused(error.to_string()))?;
        Ok(Self { graph, threads: Arc::new(ThreadPool::with_num_threads(threads)), info: info(threads, None) })
    }
}

impl Network for RtenNetwork {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(&mut self, shape: &[usize], input: &[f32], outputs: &[String]) -> Result<Vec<Vec<f32>>, EngineError> {
        let failed = |problem: String| EngineError::Run { engine: NAME, problem };
        let id = |name: &String| self.graph.node_id(name).map_err(|error| EngineError::Interface(error.to_string()));
        let ids = outputs.iter().map(id).collect::<Result<Vec<_>, _>>()?;
        let &[place] = self.graph.input_ids() else {
            return Err(EngineError::Interface("it has not exactly one input".to_owned()));
        };
        let feed: Vec<(NodeId, ValueOrView)> = vec![(place, floats(shape, input).map_err(failed)?.into())];
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let found = self.graph.run(feed, &ids, Some(options)).map_err(|error| failed(error.to_string()))?;
        let output = |value: Value| {
            let pixels =
                if value.dtype() == ValueType::Tensor(DataType::UInt8) { Pixels::Uint8 } else { Pixels::Float };
            values(value, pixels).ok_or_else(|| failed("an output is made neither of floats nor of bytes".to_owned()))
        };
        found.into_iter().map(output).collect()
    }
}

/// A node's name.
fn name_of(graph: &Graph, id: NodeId) -> Option<String> {
    graph.node_info(id)?.name().map(str::to_owned)
}

/// Inputs of the graph with their dimensions behind the batch.
fn declared(graph: &Graph) -> Vec<(String, Vec<Option<usize>>)> {
    let dimension = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Symbolic(_) => None,
    };
    let input = |&id: &NodeId| {
        let shape = graph.node_info(id)?.shape().unwrap_or_default();
        Some((name_of(graph, id)?, shape.iter().skip(1).map(dimension).collect()))
    };
    graph.input_ids().iter().filter_map(input).collect()
}

/// The one batch size of the graph's inputs.
fn fixed_batch(graph: &Graph) -> Option<usize> {
    match graph.node_info(*graph.input_ids().first()?)?.shape()?.first()? {
        Dimension::Fixed(size) if *size > 0 => Some(*size),
        _ => None,
    }
}

impl Engine for Rten {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn fixed_batch(&self) -> Option<usize> {
        self.batch
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
        let failed = |problem: String| EngineError::Run { engine: NAME, problem };
        check_inputs(NAME, &self.config, inputs)?;
        let batch = inputs.batch();
        let mut feed: Vec<(NodeId, ValueOrView)> = Vec::with_capacity(self.inputs.len());
        for ((name, dimensions), &id) in interface(&self.config).iter().zip(&self.inputs) {
            let shape: Vec<usize> = std::iter::once(batch).chain(dimensions.iter().copied()).collect();
            let value = match *name {
                names::NOISE => floats(&shape, &inputs.noise),
                names::ALPHA => floats(&shape, &inputs.alpha),
                names::STYLE => integers(&shape, &inputs.style),
                _ => integers(&shape, &inputs.class),
            };
            feed.push((id, value.map_err(|problem| failed(format!("input {name:?}: {problem}")))?.into()));
        }
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let outputs = self.graph.run(feed, &[self.output], Some(options)).map_err(|error| failed(error.to_string()))?;
        let image = outputs.into_iter().next().and_then(|value| values(value, self.image.pixels));
        let other = || failed(format!("output {:?} is not made of {}", names::IMAGE, self.image.pixels));
        let image = image.ok_or_else(other)?;
        self.image.check(batch, image.len())?;
        Ok(image)
    }
}

/// The numbers or levels of an output, if it is made of them.
fn values(value: Value, pixels: Pixels) -> Option<Vec<f32>> {
    match pixels {
        Pixels::Float => value.into_tensor::<f32>().map(|tensor| tensor.into_data()),
        Pixels::Uint8 => value.into_tensor::<u8>().map(|tensor| numbers(&tensor.into_data())),
    }
}

/// A tensor of 32-bit floats.
fn floats(shape: &[usize], values: &[f32]) -> Result<Value, String> {
    Value::from_shape(shape, values.to_vec()).map_err(|error| error.to_string())
}

/// rten computes with 32-bit integers where ONNX says 64.
fn integers(shape: &[usize], values: &[i64]) -> Result<Value, String> {
    let narrow = |&value: &i64| i32::try_from(value).map_err(|_| format!("{value} does not fit 32 bits"));
    let values = values.iter().map(narrow).collect::<Result<Vec<_>, _>>()?;
    Value::from_shape(shape, values).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_locked_one() {
        let lock = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
        assert!(lock.contains(&format!("name = \"rten\"\nversion = \"{VERSION}\"")));
    }
}
