//! What train, export and serve agree on.
//!
//! Plain data and the seeded random numbers behind it: no tensors, no threads, no I/O. A generator is described by a
//! [`GeneratorConfig`], an exported file by its [`Manifest`], and the inputs of one forward pass by [`Inputs`].

mod arithmetic;
mod decoder;
mod generator;
mod inputs;
mod mae;
mod manifest;
mod network;
pub mod pixels;
mod random;

pub use decoder::{DecoderConfig, KlDecoder};
pub use generator::{
    AlphaEmbedding, ConfigError, FinalLayer, GeneratorConfig, ImageShape, Norm, QkNorm, Rope, StyleTables,
};
pub use inputs::{Inputs, names, noise, pick};
pub use mae::{MaeBlock, MaeConfig};
pub use manifest::{
    ALPHA_DECIMALS, AlphaRange, Decoder, MANIFEST_KEY, Manifest, ManifestError, PROFILE_KEY, Provenance, from_json,
};
pub use network::{NETWORK_KEY, NetworkConfig, NetworkManifest};
pub use pixels::Pixels;
pub use random::Stream;
