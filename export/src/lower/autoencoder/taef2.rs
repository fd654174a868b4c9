//! The decoder of TAEF2: a plain sequence of layers, whose positions are the names of their parameters.

use super::super::layers::{conv, conv_unbiased, group_norm};
use crate::graph::{Result, Scope, Value};

const WIDTH: usize = 64;
/// Width inside of a middle block's normalised branch, and its groups.
const BRANCH: (usize, usize) = (256, 4);
const EPSILON: f32 = 1e-5;
/// Latents are squashed softly into (-3, 3) before they are decoded.
const LIMIT: f32 = 3.0;

/// Latents used as they are; the network's [0, 1] becomes [-1, 1].
pub(super) fn decode(g: &Scope, latents: &Value) -> Result<Value> {
    let limit = g.scalar(LIMIT);
    let squashed = g.mul(&g.tanh(&g.div(latents, &limit)?), &limit)?;
    let mut x = g.relu(&conv(&g.part("1"), &squashed, WIDTH, 3)?);
    let mut position = 3;
    for _ in 0..3 {
        x = middle_block(&g.part(&position.to_string()), &x)?;
        position += 1;
    }
    for blocks in [3, 3, 1] {
        let g_up = g.part(&position.to_string());
        x = conv_unbiased(&g.part(&(position + 1).to_string()), &g_up.upsample2(&x)?, WIDTH, 3)?;
        position += 2;
        for _ in 0..blocks {
            x = block(&g.part(&position.to_string()), &x)?;
            position += 1;
        }
    }
    let image = conv(&g.part(&position.to_string()), &x, 3, 3)?;
    g.add(&g.mul(&image, &g.scalar(2.0))?, &g.scalar(-1.0))
}

/// ReLU(convolutions(x) + x).
fn block(g: &Scope, x: &Value) -> Result<Value> {
    let layer = |name: &str, x: &Value| conv(&g.part("conv").part(name), x, WIDTH, 3);
    let y = g.relu(&layer("0", x)?);
    let y = g.relu(&layer("2", &y)?);
    Ok(g.relu(&g.add(&layer("4", &y)?, x)?))
}

/// A [`block`] of x plus a normalised branch of x.
fn middle_block(g: &Scope, x: &Value) -> Result<Value> {
    let pool = g.part("pool");
    let wide = conv_unbiased(&pool.part("0"), x, BRANCH.0, 1)?;
    let active = pool.relu(&group_norm(&pool.part("1"), &wide, BRANCH.1, EPSILON)?);
    let narrow = conv_unbiased(&pool.part("3"), &active, WIDTH, 1)?;
    block(g, &g.add(x, &narrow)?)
}
