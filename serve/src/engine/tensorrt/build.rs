//! From an ONNX graph to a plan, without a GPU.

use std::path::Path;

use drifting_spec::GeneratorConfig;
use trtx::builder::BuilderConfig;
use trtx::trtx_sys::Dims64;
use trtx::{Builder, OnnxParser, OptProfileSelector};

use super::NAME;
use super::library::{logger, reason};
use crate::engine::EngineError;
use crate::engine::interface::{check_interface, interface};
use crate::model::{Model, Source};

/// `ILogger::Severity::kWARNING`.
const PARSER_LOG_LEVEL: i32 = 2;

/// Builds a plan of `model` with one optimisation profile for each of `batches`, whose smallest, usual and largest shape
/// are the same: nothing is left to be guessed at run time.
pub(super) fn build(model: &Model, batches: &[usize]) -> Result<Vec<u8>, EngineError> {
    let failed = |error: trtx::Error| EngineError::Load { engine: NAME, problem: reason(&error) };
    if batches.is_empty() || batches.contains(&0) {
        return Err(EngineError::Settings(format!("a plan needs batch sizes from 1 on, not {batches:?}")));
    }
    let logger = logger()?;
    let mut builder = Builder::new(logger).map_err(failed)?;
    let network = builder.create_network(0).map_err(failed)?;
    let mut parser = OnnxParser::new(network, logger).map_err(failed)?;
    match &model.source {
        Source::Bytes(bytes) => parser.parse(bytes),
        Source::File { path, .. } => parser.parse_from_file(utf8(path)?, PARSER_LOG_LEVEL),
    }
    .map_err(failed)?;
    let mut config = builder.create_config().map_err(failed)?;
    let generator = &model.manifest.generator;
    for &batch in batches {
        add_profile(&mut builder, &mut config, generator, batch).map_err(failed)?;
    }
    let network = parser.network_mut();
    check(network, generator)?;
    let plan = builder.build_serialized_network(network, &mut config).map_err(failed)?;
    Ok(plan.to_vec())
}

/// A path as TensorRT takes it.
fn utf8(path: &Path) -> Result<&str, EngineError> {
    path.to_str().ok_or_else(|| {
        EngineError::Settings(format!("TensorRT opens no file whose name is not UTF-8: {}", path.display()))
    })
}

/// Compares the parsed network with the manifest.
fn check(network: &trtx::NetworkDefinition<'_>, generator: &GeneratorConfig) -> Result<(), EngineError> {
    let failed = |error: trtx::Error| EngineError::Load { engine: NAME, problem: reason(&error) };
    let mut declared = Vec::new();
    for index in 0..network.nb_inputs() {
        let input = network.input(index).map_err(failed)?;
        let dimensions = input.dimensions(network).map_err(failed)?;
        let behind = dimensions.iter().skip(1).map(|&size| usize::try_from(size).ok()).collect();
        declared.push((input.name(network).map_err(failed)?, behind));
    }
    let mut outputs = Vec::new();
    for index in 0..network.nb_outputs() {
        outputs.push(network.output(index).and_then(|output| output.name(network)).map_err(failed)?);
    }
    check_interface(generator, &declared, &outputs)
}

fn add_profile<'a>(
    builder: &mut Builder<'a>,
    config: &mut BuilderConfig<'a>,
    generator: &GeneratorConfig,
    batch: usize,
) -> trtx::Result<()> {
    let mut profile = builder.creata_optimization_profile()?;
    for (name, dimensions) in interface(generator) {
        let shape: Vec<i64> = std::iter::once(batch).chain(dimensions).map(|size| size as i64).collect();
        let shape = Dims64::from_slice(&shape);
        for selector in [OptProfileSelector::kMIN, OptProfileSelector::kOPT, OptProfileSelector::kMAX] {
            profile.set_dimensions(name, selector, &shape)?;
        }
    }
    config.add_optimization_profile(&mut profile)?;
    // The builder owns what it created; this handle would destroy it.
    std::mem::forget(profile);
    Ok(())
}
