//! The decoder of an `AutoencoderKL` (Stable Diffusion).

use drifting_spec::KlDecoder;

use super::super::layers::{conv, group_norm, linear, silu};
use crate::graph::{Result, Scope, Value};

const EPSILON: f32 = 1e-6;

/// Latents are unscaled, mixed by a 1x1 convolution, and then grow from stage to stage.
pub(super) fn decode(g: &Scope, latents: &Value, config: &KlDecoder) -> Result<Value> {
    let mut x = g.mul(latents, &g.scalar((1.0 / config.scale) as f32))?;
    if config.shift != 0.0 {
        x = g.add(&x, &g.scalar(config.shift as f32))?;
    }
    if config.post_quant_conv {
        x = conv(&g.part("post_quant_conv"), &x, config.latent_channels, 1)?;
    }
    let (g, groups) = (&g.part("decoder"), config.groups);
    let inner = config.widths.last().copied().unwrap_or_default();
    let mut x = middle(&g.part("mid_block"), &conv(&g.part("conv_in"), &x, inner, 3)?, config, inner)?;
    for (i, &width) in config.widths.iter().rev().enumerate() {
        let g = g.part(&format!("up_blocks.{i}"));
        for block in 0..config.blocks {
            x = residual(&g.part(&format!("resnets.{block}")), &x, width, groups)?;
        }
        if i + 1 < config.widths.len() {
            let g = g.part("upsamplers.0");
            x = conv(&g.part("conv"), &g.upsample2(&x)?, width, 3)?;
        }
    }
    let x = norm_silu(&g.part("conv_norm_out"), &x, groups)?;
    conv(&g.part("conv_out"), &x, config.image_channels, 3)
}

/// Block, attention, block.
fn middle(g: &Scope, x: &Value, config: &KlDecoder, width: usize) -> Result<Value> {
    let mut x = residual(&g.part("resnets.0"), x, width, config.groups)?;
    if config.attention {
        x = attention(&g.part("attentions.0"), &x, width, config.groups)?;
    }
    residual(&g.part("resnets.1"), &x, width, config.groups)
}

/// Skip(x) + convolution(SiLU(norm(convolution(SiLU(norm(x)))))); the skip is a 1x1 convolution where channels change.
fn residual(g: &Scope, x: &Value, out: usize, groups: usize) -> Result<Value> {
    let skip = match x.shape().size(1) == Some(out) {
        true => x.clone(),
        false => conv(&g.part("conv_shortcut"), x, out, 1)?,
    };
    let y = conv(&g.part("conv1"), &norm_silu(&g.part("norm1"), x, groups)?, out, 3)?;
    let y = conv(&g.part("conv2"), &norm_silu(&g.part("norm2"), &y, groups)?, out, 3)?;
    g.add(&skip, &y)
}

fn norm_silu(g: &Scope, x: &Value, groups: usize) -> Result<Value> {
    silu(g, &group_norm(g, x, groups, EPSILON)?)
}

/// x + attention over all positions of norm(x), with one head.
fn attention(g: &Scope, x: &Value, width: usize, groups: usize) -> Result<Value> {
    let sides: Vec<usize> = [2, 3].into_iter().filter_map(|axis| x.shape().size(axis)).collect();
    let normed = group_norm(&g.part("group_norm"), x, groups, EPSILON)?;
    let tokens = g.transpose(&g.reshape(&normed, &[width, sides.iter().product()])?, &[0, 2, 1])?;
    let project = |name: &str| linear(&g.part(name), &tokens, width, width);
    let (q, k, v) = (project("to_q")?, project("to_k")?, project("to_v")?);
    let q = g.mul(&q, &g.scalar((width as f32).powf(-0.5)))?;
    let scores = g.matmul(&g.low(&q), &g.low(&g.transpose(&k, &[0, 2, 1])?))?;
    let weights = g.softmax(&g.full(&scores));
    let mixed = g.full(&g.matmul(&g.low(&weights), &g.low(&v))?);
    let mixed = linear(&g.part("to_out.0"), &mixed, width, width)?;
    let sizes: Vec<usize> = [width].into_iter().chain(sides).collect();
    g.add(&g.reshape(&g.transpose(&mixed, &[0, 2, 1])?, &sizes)?, x)
}
