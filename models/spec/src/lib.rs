//! What train, export and serve agree on.
//!
//! Plain data and the seeded random numbers behind it: no tensors, no threads, no I/O. A generator is described by a
//! [`GeneratorConfig`], an exported file by its [`Manifest`], and the inputs of one forward pass by [`Inputs`].

mod arithmetic;
mod generator;
mod inputs;
mod mae;
mod manifest;
pub mod pixels;
mod random;

pub use generator::{
    AlphaEmbedding, ConfigError, FinalLayer, GeneratorConfig, ImageShape, Norm, QkNorm, Rope, StyleTables,
};
pub use inputs::{Inputs, names};
pub use mae::{MaeBlock, MaeConfig};
pub use manifest::{ALPHA_DECIMALS, AlphaRange, MANIFEST_KEY, Manifest, ManifestError, Provenance, from_json};
pub use random::Stream;
