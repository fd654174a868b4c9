//! Holds an exported model against the generator it was made from.
//!
//! A model passes if the checker accepts it, its weights are the generator's (bit for bit, or as its profile rounds
//! them), and every engine gives the generator's images for the edges of class, style and alpha, in batches of one, two
//! and five.

mod cases;
mod file;
mod quality;
mod report;
mod runner;
mod weights;

use std::collections::BTreeMap;

use candle_core::Tensor;
use drifting_models::Generator;
use drifting_spec::{GeneratorConfig, Manifest, names};

use crate::{Error, Profile, Result};
use cases::{Cases, View};
use quality::{Gate, Levels};

pub(crate) use file::ModelFile;
pub use report::{BatchReport, OutputRange, Report, RunnerReport};
pub use runner::{CandleOnnx, Runner};

/// Largest difference between an engine and candle for images in [-1, 1]; it grows with the largest number above 1.
pub const TOLERANCE: f32 = 1e-4;

/// Least peak signal-to-noise ratio of 16-bit profiles against candle in f32, in dB.
pub const LEAST_PSNR: f32 = 40.0;

/// The same for weights in 8 bits.
pub const LEAST_PSNR_INT8: f32 = 30.0;

/// Compares `model` with `generator` through candle-onnx, where it knows the model's operators, and through each of
/// `runners`.
///
/// The report tells of failures as well; [`Report::into_result`] makes them an error.
///
/// # Errors
/// A model that cannot be read or has no manifest, a manifest of another generator, a generator that cannot be run.
pub fn verify(bytes: &[u8], generator: &Generator, runners: &mut [Box<dyn Runner>]) -> Result<Report> {
    let file = ModelFile::from_bytes(bytes)?;
    let mut verification = Verification::start(&file, generator)?;
    match CandleOnnx::why_not(&file) {
        Some(reason) => verification.note(format!("candle-onnx was not asked: {reason}")),
        None => verification.run(&mut CandleOnnx::new(&file)?),
    }
    runners.iter_mut().for_each(|runner| verification.run(runner.as_mut()));
    Ok(verification.finish())
}

/// A verification that goes on: what needs the generator is done, engines follow one after another.
pub(crate) struct Verification<'a> {
    cases: Cases,
    images: Vec<f32>,
    view: View<'a>,
    gate: Gate,
    report: Report,
}

impl<'a> Verification<'a> {
    /// Checks the file, compares its weights with the generator's, and makes the images that engines are compared with.
    ///
    /// # Errors
    /// A manifest of another generator, a generator that cannot be run, a file that cannot be read.
    pub(crate) fn start(file: &'a ModelFile, generator: &Generator) -> Result<Self> {
        let manifest = file.manifest();
        same_generator(&manifest.generator, generator.config())?;
        let tensors = generator.params().tensors();
        let mut failures = file.faults();
        if failures.is_empty() {
            failures.extend(weights::differences(file, &tensors)?);
        }
        let cases = Cases::new(manifest);
        let images = generator.run(&cases.inputs)?.flatten_all()?.to_vec1::<f32>()?;
        let output = OutputRange::of(&images);
        if !output.is_finite() {
            failures.push("candle: the generator's own image holds NaN or infinite numbers".into());
        }
        let psnr = match file.profile() {
            Profile::Portable | Profile::Ort => None,
            Profile::Fp16 | Profile::Bf16 => Some(LEAST_PSNR),
            Profile::Int8 => Some(LEAST_PSNR_INT8),
        };
        let gate = Gate { difference: TOLERANCE * output.largest().max(1.0), psnr };
        let report = Report {
            profile: file.profile(),
            batch: file.batch(),
            model_sha256: file.sha256()?,
            tool_version: env!("CARGO_PKG_VERSION").into(),
            parameters: tensors.len(),
            tolerance: gate.difference,
            least_psnr_db: psnr,
            output,
            runners: Vec::new(),
            notes: Vec::new(),
            failures,
        };
        let view = View { fixed: file.batch(), levels: Levels::new(manifest, output.min, output.max) };
        Ok(Self { cases, images, view, gate, report })
    }

    /// Compares an engine.
    pub(crate) fn run(&mut self, runner: &mut dyn Runner) {
        let report = self.cases.compare(runner, &self.images, &self.view);
        self.report.failures.extend(report.failures(self.gate));
        self.report.runners.push(report);
    }

    /// Says what is not compared.
    pub(crate) fn note(&mut self, note: String) {
        self.report.notes.push(note);
    }

    /// What was found.
    pub(crate) fn finish(self) -> Report {
        self.report
    }
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
