//! Holds an exported model against the generator it was made from.
//!
//! A model passes if the checker accepts it, its weights are the generator's bit for bit, and every engine gives the
//! generator's images for the edges of class, style and alpha, in batches of one, two and five.

mod cases;
mod report;
mod runner;
mod weights;

use std::collections::BTreeMap;

use candle_core::Tensor;
use drifting_models::Generator;
use drifting_spec::{GeneratorConfig, Manifest, names};
use sha2::{Digest, Sha256};

use crate::graph::{self, GraphError};
use crate::{Error, Result, model, proto};
use cases::Cases;

pub use report::{BatchReport, OutputRange, Report, RunnerReport};
pub use runner::{CandleOnnx, Runner};

/// Largest difference between an engine and candle for images in [-1, 1]; it grows with the largest number above 1.
pub const TOLERANCE: f32 = 1e-4;

/// Compares `model` with `generator` through candle-onnx and through each of `runners`.
///
/// The report tells of failures as well; [`Report::into_result`] makes them an error.
///
/// # Errors
/// A model that cannot be read or has no manifest, a manifest of another generator, a generator that cannot be run.
pub fn verify(bytes: &[u8], generator: &Generator, runners: &mut [Box<dyn Runner>]) -> Result<Report> {
    let decoded = proto::decode(bytes).map_err(|error| GraphError::new("model", error.to_string()))?;
    let manifest = model::manifest(bytes)?;
    same_generator(&manifest.generator, generator.config())?;
    let tensors = generator.params().tensors();
    let mut failures = Vec::new();
    if let Err(error) = graph::check(bytes) {
        failures.push(error.to_string());
    }
    failures.extend(weights::differences(&decoded, &tensors)?);

    let cases = Cases::new(&manifest);
    let images = generator.run(&cases.inputs)?.flatten_all()?.to_vec1::<f32>()?;
    let output = OutputRange::of(&images);
    let tolerance = TOLERANCE * output.largest().max(1.0);
    if !output.is_finite() {
        failures.push("candle: the generator's own image holds NaN or infinite numbers".into());
    }
    let mut candle: Box<dyn Runner> = Box::new(CandleOnnx::new(bytes, generator.config().clone())?);
    let mut reports = Vec::new();
    for runner in std::iter::once(&mut candle).chain(runners) {
        let report = cases.compare(runner.as_mut(), &images);
        failures.extend(report.failures(tolerance));
        reports.push(report);
    }
    Ok(Report {
        model_sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        parameters: tensors.len(),
        tolerance,
        output,
        runners: reports,
        failures,
    })
}

/// The inputs that engines are asked with, and the generator's `image` for them, under the names of the exported model:
/// what a check outside of this crate needs (`export/tests/python/check_onnx.py`).
///
/// # Errors
/// A manifest of another generator, a generator that cannot be run.
pub fn reference(generator: &Generator, manifest: &Manifest) -> Result<BTreeMap<String, Tensor>> {
    same_generator(&manifest.generator, generator.config())?;
    let inputs = Cases::new(manifest).inputs;
    let mut tensors = runner::tensors(&inputs, generator.config())?;
    tensors.insert(names::IMAGE, generator.run(&inputs)?);
    Ok(tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect())
}

pub(crate) fn same_generator(manifest: &GeneratorConfig, generator: &GeneratorConfig) -> Result<()> {
    if manifest == generator {
        return Ok(());
    }
    Err(Error::OtherGenerator { manifest: format!("{manifest:?}"), generator: format!("{generator:?}") })
}
