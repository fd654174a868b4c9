//! Holds an exported model against the network it was made from.
//!
//! A model passes if the checker accepts it, its weights are the network's bit for bit, and every engine gives the
//! network's images for the edges of class, style and alpha, in batches of one, two and five.

mod cases;
mod network;
mod report;
mod runner;
mod weights;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use drifting_spec::{Manifest, Pixels, names};
use sha2::{Digest, Sha256};

use crate::graph::{self, GraphError};
use crate::{ImageModel, Result, model, proto};
use cases::Cases;

pub use network::{NetworkRunner, network_reference, verify_network};
pub use report::{BatchReport, OutputRange, Report, RunnerReport};
pub use runner::{CandleOnnx, Runner};

/// Largest difference between an engine and candle for images in [-1, 1]; it grows with the largest number above 1.
pub const TOLERANCE: f32 = 1e-4;

/// Largest difference between levels of pixels: a value in the middle between two may fall to either side.
const LEVEL_TOLERANCE: f32 = 1.0;

/// Compares `model` with the generator, and the decoder behind it, through candle-onnx and through each of `runners`.
///
/// The report tells of failures as well; [`Report::into_result`] makes them an error.
///
/// # Errors
/// A model that cannot be read or has no manifest, a manifest of another network, a network that cannot be run.
pub fn verify<'a>(bytes: &[u8], network: impl Into<ImageModel<'a>>, runners: &mut [Box<dyn Runner>]) -> Result<Report> {
    let network = network.into();
    let manifest = model::manifest(bytes)?;
    network.check(&manifest)?;
    let mut failures = file_failures(bytes, &network.tensors())?;
    let cases = Cases::new(&manifest);
    let images = network.run(&manifest, &cases.inputs)?.flatten_all()?.to_vec1::<f32>()?;
    let output = OutputRange::of(&images);
    let tolerance = tolerance(manifest.pixels, output);
    if !output.is_finite() {
        failures.push("candle: the network's own image holds NaN or infinite numbers".into());
    }
    let mut candle: Box<dyn Runner> = Box::new(CandleOnnx::new(bytes, manifest.generator.clone())?);
    let mut reports = Vec::new();
    for runner in std::iter::once(&mut candle).chain(runners) {
        let report = cases.compare(runner.as_mut(), &images);
        failures.extend(report.failures(tolerance));
        reports.push(report);
    }
    Ok(Report {
        model_sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        parameters: network.tensors().len(),
        tolerance,
        output,
        runners: reports,
        failures,
    })
}

/// What is wrong with the file itself: its graph, or a weight that is not the network's.
fn file_failures(bytes: &[u8], tensors: &BTreeMap<String, Tensor>) -> Result<Vec<String>> {
    let decoded = proto::decode(bytes).map_err(|error| GraphError::new("model", error.to_string()))?;
    let mut failures = Vec::new();
    if let Err(error) = graph::check(bytes) {
        failures.push(error.to_string());
    }
    failures.extend(weights::differences(&decoded, tensors)?);
    Ok(failures)
}

/// The largest difference that passes.
fn tolerance(pixels: Pixels, output: OutputRange) -> f32 {
    match pixels {
        Pixels::Float => TOLERANCE * output.largest().max(1.0),
        Pixels::Uint8 => LEVEL_TOLERANCE,
    }
}

/// The inputs that engines are asked with, and the network's `image` for them, under the names of the exported model:
/// what a check outside of this crate needs (`export/tests/python/check_onnx.py`).
///
/// # Errors
/// A manifest of another network, a network that cannot be run.
pub fn reference<'a>(network: impl Into<ImageModel<'a>>, manifest: &Manifest) -> Result<BTreeMap<String, Tensor>> {
    let network = network.into();
    network.check(manifest)?;
    let inputs = Cases::new(manifest).inputs;
    let mut tensors = runner::tensors(&inputs, &manifest.generator)?;
    tensors.insert(names::IMAGE, stored(network.run(manifest, &inputs)?, manifest.pixels)?);
    Ok(tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
}

/// An image with the element type that it has in a file.
fn stored(image: Tensor, pixels: Pixels) -> Result<Tensor> {
    if pixels.is_float() { Ok(image) } else { Ok(image.to_dtype(DType::U8)?) }
}
