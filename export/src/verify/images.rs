//! The verification of generators, with or without their decoder.

use std::collections::BTreeMap;

use candle_core::Tensor;
use drifting_spec::{MANIFEST_KEY, Manifest, names};

use super::cases::{Cases, View};
use super::quality::Levels;
use super::report::{OutputRange, RunnerReport};
use super::runner::{self, CandleOnnx, Runner};
use super::verification::{Comparison, Verification};
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
    let mut verification = Images::verification(&file, network.into())?;
    verification.second_opinion(&file)?;
    runners.iter_mut().for_each(|runner| verification.run(runner.as_mut()));
    Ok(verification.finish())
}

/// Images of a generator, with or without its decoder.
pub(crate) struct Images {
    manifest: Manifest,
    cases: Cases,
    images: Vec<f32>,
    view: View,
}

impl Images {
    /// Checks the file, compares its weights with the networks', and makes the images that engines are compared with.
    ///
    /// # Errors
    /// No manifest or one of another network, a network that cannot be run, a file that cannot be read.
    pub(crate) fn verification(file: &ModelFile, network: ImageModel<'_>) -> Result<Verification<Self>> {
        let manifest = Manifest::parse(file.entry(MANIFEST_KEY)?)?;
        network.check(&manifest)?;
        let cases = Cases::new(&manifest);
        let images = network.run(&manifest, &cases.inputs)?.flatten_all()?.to_vec1::<f32>()?;
        let output = OutputRange::of(&images);
        let (report, gate) = begin(file, &network.tensors(), manifest.pixels, output)?;
        let shape = manifest.image().map_err(drifting_spec::ManifestError::from)?;
        let levels = Levels::of_images(shape, manifest.output_range(), output);
        let view = View { fixed: file.batch(), levels };
        Ok(Verification { comparison: Self { manifest, cases, images, view }, gate, report })
    }
}

impl Comparison for Images {
    type Engine = dyn Runner;

    fn candle(&self, file: &ModelFile) -> Result<Box<dyn Runner>> {
        Ok(Box::new(CandleOnnx::new(file, self.manifest.generator.clone())?))
    }

    fn compare(&self, engine: &mut Self::Engine) -> RunnerReport {
        self.cases.compare(engine, &self.images, &self.view)
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
