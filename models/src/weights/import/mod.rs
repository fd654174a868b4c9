//! Import of the folders that the authors publish: `metadata.json` beside `ema_params.msgpack`, a flax tree.

mod flax;
mod generator;
mod mae;
mod metadata;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use drifting_spec::{GeneratorConfig, MaeConfig};

use self::flax::Tree;
pub use self::mae::mae_from_tree;
use self::metadata::{Config, Metadata};
use super::MaeFile;
use super::file::{hex, read_bytes, write};
use crate::{Error, Result};

/// A network as its authors published it, under our names and in our layout.
#[derive(Debug)]
pub struct Imported<C> {
    /// Architecture.
    pub config: C,
    /// Parameters by name, f32; linear weights `[out, in]`, convolutions `[side, side, in, out]`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Optimizer steps behind the weights.
    pub step: u64,
    /// Decay of the moving average that the weights are.
    pub ema_decay: Option<f64>,
    /// SHA-256 of the tree's file.
    pub source_sha256: String,
}

/// A published [`Generator`](crate::Generator).
pub type ImportedGenerator = Imported<GeneratorConfig>;

/// A published [`Mae`](crate::Mae).
pub type ImportedMae = Imported<MaeConfig>;

/// A published network of either kind.
#[derive(Debug)]
pub enum ImportedNetwork {
    /// Kind `gen`.
    Generator(ImportedGenerator),
    /// Kind `mae`.
    Mae(ImportedMae),
}

impl<C> Imported<C> {
    /// Numbers in all parameters together.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.tensors.values().map(Tensor::elem_count).sum()
    }

    /// What the header of a weight file says: `step`, `ema_decay` and `source`.
    fn about(&self) -> BTreeMap<String, String> {
        let source = format!("{TREE_FILE}, sha256 {}", self.source_sha256);
        let mut about = BTreeMap::from([("step".to_owned(), self.step.to_string()), ("source".to_owned(), source)]);
        about.extend(self.ema_decay.map(|decay| ("ema_decay".to_owned(), decay.to_string())));
        about
    }
}

impl ImportedGenerator {
    /// Writes a weight file whose header says `config` (JSON), `step`, `ema_decay` and `source`; returns its SHA-256.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn write(&self, path: &Path) -> Result<String> {
        let config = serde_json::to_string(&self.config)
            .map_err(|error| Error::File { path: path.to_owned(), problem: error.to_string() })?;
        let mut metadata = self.about();
        metadata.insert("config".to_owned(), config);
        write(path, &self.tensors, &metadata)
    }
}

impl ImportedMae {
    /// Writes a [`MaeFile`] whose header says `step`, `ema_decay` and `source` too; returns its SHA-256.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn write(&self, path: &Path) -> Result<String> {
        MaeFile::write(path, &self.config, &self.tensors, self.about())
    }
}

pub(super) const METADATA_FILE: &str = "metadata.json";
pub(super) const TREE_FILE: &str = "ema_params.msgpack";

/// Reads a published network from its folder. Every tensor of the tree becomes part of a parameter, and every parameter
/// is filled.
///
/// # Errors
/// Files that cannot be read or are no such artefact; options that our configurations do not know; tensors that are
/// missing, left over, of another shape or type, or not finite. The message names file and tensor.
pub fn import(folder: &Path) -> Result<ImportedNetwork> {
    let path = folder.join(METADATA_FILE);
    let problem = |problem| Error::File { path: path.clone(), problem };
    let Metadata { step, ema_decay, config } = Metadata::parse(&read_bytes(&path)?).map_err(problem)?;
    let path = folder.join(TREE_FILE);
    let problem = |problem| Error::File { path: path.clone(), problem };
    let bytes = read_bytes(&path)?;
    let tree = Tree::parse(&bytes).map_err(problem)?;
    let source_sha256 = hex(&bytes);
    Ok(match config {
        Config::Generator(config) => {
            let tensors = generator::tensors(tree, &config).map_err(problem)?;
            ImportedNetwork::Generator(Imported { config, tensors, step, ema_decay, source_sha256 })
        }
        Config::Mae(config) => {
            let tensors = mae::tensors_of(tree, &config).map_err(problem)?;
            ImportedNetwork::Mae(Imported { config, tensors, step, ema_decay, source_sha256 })
        }
    })
}

/// [`import`] of a folder that must hold a generator.
///
/// # Errors
/// As [`import`], and another kind of network.
pub fn import_generator(folder: &Path) -> Result<ImportedGenerator> {
    match import(folder)? {
        ImportedNetwork::Generator(generator) => Ok(generator),
        ImportedNetwork::Mae(_) => Err(kind(folder, "mae; a generator's is gen")),
    }
}

/// [`import`] of a folder that must hold a masked autoencoder.
///
/// # Errors
/// As [`import`], and another kind of network.
pub fn import_mae(folder: &Path) -> Result<ImportedMae> {
    match import(folder)? {
        ImportedNetwork::Mae(mae) => Ok(mae),
        ImportedNetwork::Generator(_) => Err(kind(folder, "gen; a masked autoencoder's is mae")),
    }
}

fn kind(folder: &Path, problem: &str) -> Error {
    Error::File { path: folder.join(METADATA_FILE), problem: format!("kind is {problem}") }
}
