//! Weights: our safetensors files, published artefacts and their import, and the rule of the golden data.

mod file;
pub mod hub;
mod import;
mod mae;
mod rule;
mod torch;

pub use file::{WeightFile, read, read_metadata, read_published, write, write_bytes};
pub(crate) use file::{hex, read_bytes};
pub use import::{
    Imported, ImportedGenerator, ImportedMae, ImportedNetwork, import, import_generator, import_mae, mae_from_tree,
};
pub use mae::MaeFile;
pub use rule::by_rule;
