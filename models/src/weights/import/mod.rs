//! Import of the folders that the authors publish: `metadata.json` beside `ema_params.msgpack`, a flax tree.

mod flax;
mod generator;
mod metadata;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::Tensor;
use drifting_spec::GeneratorConfig;

use self::flax::Tree;
use self::metadata::Metadata;
use super::file::{hex, write};
use crate::{Error, Result};

/// A generator as its authors published it, under our names and in our layout.
#[derive(Debug)]
pub struct ImportedGenerator {
    /// Architecture.
    pub config: GeneratorConfig,
    /// Parameters of [`Generator`](crate::Generator) by name, f32; linear weights `[out, in]`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Optimizer steps behind the weights.
    pub step: u64,
    /// Decay of the moving average that the weights are.
    pub ema_decay: Option<f64>,
    /// SHA-256 of the tree's file.
    pub source_sha256: String,
}

impl ImportedGenerator {
    /// Numbers in all parameters together.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.tensors.values().map(Tensor::elem_count).sum()
    }

    /// Writes a weight file whose header says `config` (JSON), `step`, `ema_decay` and `source`; returns its SHA-256.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn write(&self, path: &Path) -> Result<String> {
        let config = serde_json::to_string(&self.config)
            .map_err(|error| Error::File { path: path.to_owned(), problem: error.to_string() })?;
        let source = format!("{TREE_FILE}, sha256 {}", self.source_sha256);
        let mut metadata = BTreeMap::from([
            ("config".to_owned(), config),
            ("step".to_owned(), self.step.to_string()),
            ("source".to_owned(), source),
        ]);
        metadata.extend(self.ema_decay.map(|decay| ("ema_decay".to_owned(), decay.to_string())));
        write(path, &self.tensors, &metadata)
    }
}

const METADATA_FILE: &str = "metadata.json";
const TREE_FILE: &str = "ema_params.msgpack";

/// Reads a published generator from its folder. Every tensor of the tree becomes part of a parameter, and every parameter
/// is filled.
///
/// # Errors
/// Files that cannot be read or are no such artefact; options that [`GeneratorConfig`] does not know; tensors that are
/// missing, left over, of another shape or type, or not finite. The message names file and tensor.
pub fn import_generator(folder: &Path) -> Result<ImportedGenerator> {
    let path = folder.join(METADATA_FILE);
    let problem = |problem| Error::File { path: path.clone(), problem };
    let Metadata { step, ema_decay, config } = Metadata::parse(&read(&path)?).map_err(problem)?;
    let path = folder.join(TREE_FILE);
    let problem = |problem| Error::File { path: path.clone(), problem };
    let bytes = read(&path)?;
    let tree = Tree::parse(&bytes).map_err(problem)?;
    let tensors = generator::tensors(tree, &config).map_err(problem)?;
    Ok(ImportedGenerator { config, tensors, step, ema_decay, source_sha256: hex(&bytes) })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}
