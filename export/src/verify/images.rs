//! The verification of generators, with or without their decoder.

use std::collections::BTreeMap;

use candle_core::Tensor;
use drifting_spec::{MANIFEST_KEY, Manifest, names};

use super::cases::{Cases, View};
use super::quality::{Gate, Levels};
use super::report::OutputRange;
use super::runner::{self, CandleOnnx, Runner};
use super::{ModelFile, Report, begin, stored};
use crate::{ImageModel, Result};

/// Compares `model` with the generator, and the decoder behind it, through candle-onnx, where it knows the model's
/// operators, and through each of `runners`.
///
/// The report tells of failures as well; [`Report::into_result`] makes them an error.
///
/// # Errors
/// A model that cannot be read or has no manifest, a manifest of another network, a network that cannot be run.
pub fn verify<'a>(bytes: &[u8], network: impl Into<ImageModel<'a>>, runners: &mut [Box<dyn Runner>]) -> Result<Report> {
    let file = ModelFile::from_bytes(bytes)?;
    let mut verification = ImageVerification::start(&file, network.into())?;
    verification.second_opinion(&file)?;
    runners.iter_mut().for_each(|runner| verification.run(runner.as_mut()));
    Ok(verification.finish())
}

/// A verification that goes on: what needs the networks is done, engines follow one after another.
pub(crate) struct ImageVerification {
    manifest: Manifest,
    cases: Cases,
    images: Vec<f32>,
    view: View,
    gate: Gate,
    report: Report,
}

impl ImageVerification {
    /// Checks the file, compares its weights with the networks', and makes the images that engines are compared with.
    ///
    /// # Errors
    /// No manifest or one of another network, a network that cannot be run, a file that cannot be read.
    pub(crate) fn start(file: &ModelFile, network: ImageModel<'_>) -> Result<Self> {
        let manifest = Manifest::parse(file.entry(MANIFEST_KEY)?)?;
        network.check(&manifest)?;
        let cases = Cases::new(&manifest);
        let images = network.run(&manifest, &cases.inputs)?.flatten_all()?.to_vec1::<f32>()?;
        let output = OutputRange::of(&images);
        let (report, gate) = begin(file, &network.tensors(), manifest.pixels, output)?;
        let shape = manifest.image().map_err(drifting_spec::ManifestError::from)?;
        let levels = Levels::of_images(shape, manifest.output_range(), output);
        Ok(Self { manifest, cases, images, view: View { fixed: file.batch(), levels }, gate, report })
    }

    /// Asks candle-onnx, or notes why not.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn second_opinion(&mut self, file: &ModelFile) -> Result<()> {
        match runner::why_not_candle(file) {
            Some(reason) => self.note(&format!("candle-onnx was not asked: {reason}")),
            None => self.run(&mut CandleOnnx::new(file, self.manifest.generator.clone())?),
        }
        Ok(())
    }

    /// Compares an engine.
    pub(crate) fn run(&mut self, runner: &mut dyn Runner) {
        let report = self.cases.compare(runner, &self.images, &self.view);
        self.report.failures.extend(report.failures(self.gate));
        self.report.runners.push(report);
    }

    /// Says what is not compared.
    pub(crate) fn note(&mut self, note: &str) {
        self.report.notes.push(note.to_owned());
    }

    /// What was found.
    pub(crate) fn finish(self) -> Report {
        self.report
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
