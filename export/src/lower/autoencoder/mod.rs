//! Decoders: latents `[batch, channels, height, width]` become images.

mod kl;
mod taef2;

use drifting_spec::{DecoderConfig, ImageShape, Pixels, names};

use super::pixels::pixels;
use crate::graph::{Builder, DType, Graph, Parameters, Result, Scope, Shape, Value};

/// Values that mean black and white.
const RANGE: [f32; 2] = [-1.0, 1.0];

/// The graph of a decoder alone, with the given parameters under their published names.
///
/// # Errors
/// A parameter that is missing, unknown or of another shape than `config` says.
pub(crate) fn decoder(
    config: &DecoderConfig,
    latent: ImageShape,
    kind: Pixels,
    parameters: Parameters,
) -> Result<Graph> {
    let builder = Builder::new("decoder", names::BATCH, parameters);
    let ImageShape { channels, height, width } = latent;
    let latents = builder.input(names::LATENT, DType::F32, Shape::batched(&[channels, height, width]));
    let g = &builder.root();
    let image = pixels(g, &decode(g, &latents, config)?, kind, RANGE)?;
    builder.finish(&[(names::IMAGE, &image)])
}

/// The image around [-1, 1] of latents that are scaled as the generator makes them.
pub(super) fn decode(g: &Scope, latents: &Value, config: &DecoderConfig) -> Result<Value> {
    match config {
        DecoderConfig::Kl(config) => kl::decode(g, latents, config),
        DecoderConfig::Taef2 => taef2::decode(g, latents),
    }
}
