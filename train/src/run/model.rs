//! Weight files of generators.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use drifting_models::nn::Source;
use drifting_models::{Generator, weights};
use drifting_spec::{GeneratorConfig, Manifest, from_json};

use super::RunError;
use super::checkpoint::{CONFIG_ENTRY, MANIFEST_ENTRY, STEP_ENTRY};

/// A generator's weights with what their file says about them.
#[derive(Debug)]
pub struct ModelFile {
    /// The file.
    pub path: PathBuf,
    /// Architecture, classes, alpha, origin; the hash is that of the file.
    pub manifest: Manifest,
    /// Weights by parameter name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl ModelFile {
    /// Reads a weight file of a run or one that `drifting import` wrote.
    ///
    /// # Errors
    /// A file that does not say what its weights are.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let file = weights::read(path, &Device::Cpu)?;
        let failed = |problem: String| RunError::file(path, problem);
        if file.metadata.get("kind").is_some_and(|kind| kind == "mae") {
            return Err(failed("holds a masked autoencoder, expected a generator".to_owned()));
        }
        let mut manifest = match (file.metadata.get(MANIFEST_ENTRY), file.metadata.get(CONFIG_ENTRY)) {
            (Some(json), _) => Manifest::parse(json).map_err(|error| failed(error.to_string()))?,
            (None, Some(json)) => {
                let problem = |problem| failed(format!("header: {CONFIG_ENTRY}.{problem}"));
                let config: GeneratorConfig = from_json(json).map_err(problem)?;
                // Before anything is made that is as large as a number in the file says.
                config.validate().map_err(|error| failed(error.to_string()))?;
                imported(path, config, &file.metadata)
            }
            (None, None) => {
                let problem = "has no header that describes a generator; drifting train and drifting import write one";
                return Err(failed(problem.to_owned()));
            }
        };
        manifest.provenance.weights_sha256 = file.sha256;
        Ok(Self { path: path.to_owned(), manifest, tensors: file.tensors })
    }

    /// The network with these weights.
    ///
    /// # Errors
    /// Weights that do not match the architecture exactly; names the file.
    pub fn generator(&self) -> Result<Generator, RunError> {
        let source = Source::Tensors(self.tensors.clone());
        let generator = Generator::new(self.manifest.generator.clone(), source, &Device::Cpu);
        generator.map_err(|error| RunError::file(&self.path, error.to_string()))
    }

    /// The network with these weights, to make images only, and its description; the weights are in memory once.
    ///
    /// # Errors
    /// As [`ModelFile::generator`].
    pub fn into_generator(self) -> Result<(Generator, Manifest), RunError> {
        let source = Source::Tensors(self.tensors);
        let generator = Generator::inference(self.manifest.generator.clone(), source, &Device::Cpu);
        Ok((generator.map_err(|error| RunError::file(&self.path, error.to_string()))?, self.manifest))
    }
}

/// The manifest of published weights, whose alpha was drawn from 1..4 (paper A.7).
fn imported(path: &Path, config: GeneratorConfig, metadata: &BTreeMap<String, String>) -> Manifest {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let number = |key: &str| metadata.get(key).and_then(|text| text.parse::<f64>().ok());
    let alpha = drifting_spec::AlphaRange { min: 1.0, max: 4.0, default: 1.0 };
    let mut manifest = Manifest::new(name, config, alpha);
    manifest.provenance.step = number(STEP_ENTRY).unwrap_or_default() as u64;
    manifest.provenance.ema_decay = number("ema_decay");
    manifest.provenance.tool_version = env!("CARGO_PKG_VERSION").to_owned();
    manifest
}
