//! Weight files: our safetensors, and the import of published artefacts.

mod file;
mod import;

pub use file::{WeightFile, read, write, write_bytes};
pub use import::{ImportedGenerator, import_generator};
