//! The drifting generator (paper appendix A.2): noise, style, class and alpha become an image in one pass.

use drifting_spec::{FinalLayer, GeneratorConfig, ImageShape, Manifest, names};

use super::attention::attention;
use super::autoencoder::decode;
use super::conditioning::{Condition, conditioning, linear_of_condition};
use super::layers::{linear, linear_exact, linear_low, norm, silu};
use super::pixels::pixels;
use super::rotary::Rotary;
use crate::graph::{Builder, DType, Graph, Layout, Parameters, Result, Scope, Shape, Value};

/// The part of a latent model's file that holds the decoder.
pub(crate) const DECODER: &str = "decoder";

/// The graph of a generator with the given parameters, named as in the network, and of the decoder behind it, whose
/// names follow [`DECODER`].
///
/// # Errors
/// A parameter that is missing, unknown or of another shape than `manifest` says.
pub(crate) fn generator(manifest: &Manifest, parameters: Parameters) -> Result<Graph> {
    let config = &manifest.generator;
    let builder = Builder::new("generator", names::BATCH, parameters);
    let g = &builder.root();
    let ImageShape { channels, height, width } = config.image;
    let noise = builder.input(names::NOISE, DType::F32, Shape::batched(&[channels, height, width]));
    let Condition { vector: condition, class } = conditioning(&builder, config)?;
    let active = silu(g, &condition)?;
    let rotary = Rotary::new(g, config, &class)?;

    let mut x = patches(g, &noise, config)?;
    if config.registers > 0 {
        x = g.concat(&registers(&g.part("register"), &condition, config)?, &x, 1)?;
    }
    for i in 0..config.depth {
        x = block(&g.part(&format!("blocks.{i}")), &x, &active, config, rotary.as_ref())?;
    }
    if config.registers > 0 {
        x = g.skip(&x, 1, config.registers)?;
    }
    let mut image = image(&g.part("final"), &x, &active, config)?;
    if let Some(decoder) = &manifest.decoder {
        image = decode(&g.part(DECODER), &image, &decoder.config)?;
    }
    let image = pixels(g, &image, manifest.pixels, manifest.value_range)?;
    builder.finish(&[(names::IMAGE, &image)])
}

/// Patches as tokens `[batch, patches, hidden]`, row-major, the numbers of a patch in the order row, column, channel.
fn patches(g: &Scope, noise: &Value, config: &GeneratorConfig) -> Result<Value> {
    let (p, (rows, columns), channels) = (config.patch, config.grid(), config.image.channels);
    let embed = g.part("patch_embed");
    let cut = embed.reshape(noise, &[channels, rows, p, columns, p])?;
    let cut = embed.transpose(&cut, &[0, 2, 4, 3, 5, 1])?;
    let cut = embed.reshape(&cut, &[config.patches(), config.patch_len()])?;
    let tokens = linear_exact(&embed, &cut, config.patch_len(), config.hidden)?;
    if !config.positions {
        return Ok(tokens);
    }
    g.add(&tokens, &g.parameter("pos_embed", &[config.patches(), config.hidden], Layout::Same)?)
}

/// Register tokens `[batch, registers, hidden]`: the projected condition, each with its own embedding.
fn registers(g: &Scope, condition: &Value, config: &GeneratorConfig) -> Result<Value> {
    let projected = linear_of_condition(&g.part("proj"), condition, config.hidden, config.hidden)?;
    let embed = g.parameter("embed", &[config.registers, config.hidden], Layout::Same)?;
    g.add(&projected, &embed)
}

/// One transformer block: attention and MLP, each shifted, scaled and gated by the condition.
fn block(g: &Scope, x: &Value, active: &Value, config: &GeneratorConfig, rotary: Option<&Rotary>) -> Result<Value> {
    let [shift1, scale1, gate1, shift2, scale2, gate2] = modulation(&g.part("modulation"), active, config)?;
    let normed = |name: &str, x: &Value| norm(&g.part(name), x, config.hidden, config.norm, config.norm_affine);

    let input = modulate(g, &normed("norm1", x)?, &shift1, &scale1)?;
    let x = &g.add(x, &g.mul(&gate1, &attention(&g.part("attn"), &input, config, rotary)?)?)?;
    let input = modulate(g, &normed("norm2", x)?, &shift2, &scale2)?;
    g.add(x, &g.mul(&gate2, &swiglu(&g.part("mlp"), &input, config)?)?)
}

/// `N` vectors `[batch, 1, hidden]` from the activated condition.
fn modulation<const N: usize>(g: &Scope, active: &Value, config: &GeneratorConfig) -> Result<[Value; N]> {
    g.split(&linear_of_condition(g, active, config.hidden, N * config.hidden)?)
}

/// `x * (1 + scale) + shift`.
fn modulate(g: &Scope, x: &Value, shift: &Value, scale: &Value) -> Result<Value> {
    g.add(&g.mul(x, &g.add(scale, &g.scalar(1.0))?)?, shift)
}

/// `(SiLU(gate(x)) * value(x)) W + b`.
fn swiglu(g: &Scope, x: &Value, config: &GeneratorConfig) -> Result<Value> {
    let (hidden, inner) = (config.hidden, config.mlp_inner());
    let gate = linear_low(&g.part("gate"), x, hidden, inner)?;
    let value = linear_low(&g.part("value"), x, hidden, inner)?;
    linear(&g.part("out"), &g.mul(&silu(g, &gate)?, &value)?, inner, hidden)
}

/// The final layer, and the inverse of [`patches`]: tokens become `[batch, channels, height, width]`.
fn image(g: &Scope, x: &Value, active: &Value, config: &GeneratorConfig) -> Result<Value> {
    let (p, (rows, columns)) = (config.patch, config.grid());
    let ImageShape { channels, height, width } = config.image;
    let mut x = norm(&g.part("norm"), x, config.hidden, config.norm, config.norm_affine)?;
    if config.final_layer == FinalLayer::Adaln {
        let [shift, scale] = modulation(&g.part("modulation"), active, config)?;
        x = modulate(g, &x, &shift, &scale)?;
    }
    let out = linear_exact(&g.part("out"), &x, config.hidden, config.patch_len())?;
    let cut = g.reshape(&out, &[rows, columns, p, p, channels])?;
    g.reshape(&g.transpose(&cut, &[0, 5, 1, 3, 2, 4])?, &[channels, height, width])
}
