//! Weight files: our safetensors, and the import of published artefacts.

mod file;

pub use file::{WeightFile, read, write, write_bytes};
