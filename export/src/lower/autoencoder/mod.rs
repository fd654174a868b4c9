//! Decoders: latents `[batch, channels, height, width]` become images.

mod kl;
mod taef2;

use drifting_spec::DecoderConfig;

use crate::graph::{Result, Scope, Value};

/// The image around [-1, 1] of latents that are scaled as the generator makes them.
pub(super) fn decode(g: &Scope, latents: &Value, config: &DecoderConfig) -> Result<Value> {
    match config {
        DecoderConfig::Kl(config) => kl::decode(g, latents, config),
        DecoderConfig::Taef2 => taef2::decode(g, latents),
    }
}
