//! Multi-head attention, spelled out or as one operator.

use drifting_spec::{GeneratorConfig, QkNorm};

use super::layers::{linear, linear_low, rms_norm};
use super::rotary::Rotary;
use crate::graph::{Layout, Result, Scope, Value};
use crate::settings::Profile;

/// The least sum of squares whose root an L2 norm divides by.
const L2_LEAST: f32 = 1e-12;

/// Attention over the tokens `[batch, tokens, hidden]`.
pub(super) fn attention(g: &Scope, x: &Value, config: &GeneratorConfig, rotary: Option<&Rotary>) -> Result<Value> {
    let hidden = config.hidden;
    let qkv = linear_low(&g.part("qkv"), x, hidden, 3 * hidden)?;
    let parts = g.split(&qkv)?;
    let joined = match g.profile() {
        Profile::Ort => as_operator(g, parts, config, rotary)?,
        _ => spelled_out(g, parts, config, rotary)?,
    };
    linear(&g.part("out"), &joined, hidden, hidden)
}

/// Queries and keys are normalised and rotated as `[batch, tokens, heads, head dim]`, so that each of them is transposed
/// only once.
fn spelled_out(g: &Scope, [q, k, v]: [Value; 3], config: &GeneratorConfig, rotary: Option<&Rotary>) -> Result<Value> {
    let by_head = |x: &Value| g.reshape(x, &[config.tokens(), config.heads, config.head_dim()]);
    let turned = |name: &str, x: &Value| {
        let normed = qk_norm(&g.part(name), &g.full(&by_head(x)?), config)?;
        rotary.map_or(Ok(normed.clone()), |rotary| rotary.rotate(g, &normed))
    };
    let (q, k) = (turned("q_norm", &q)?, turned("k_norm", &k)?);

    let q = g.mul(&g.transpose(&q, &[0, 2, 1, 3])?, &g.scalar(scale(config)))?;
    let scores = g.matmul(&g.low(&q), &g.low(&g.transpose(&k, &[0, 2, 3, 1])?))?;
    let weights = g.low(&g.softmax(&g.full(&scores)));
    let mixed = g.matmul(&weights, &g.transpose(&by_head(&v)?, &[0, 2, 1, 3])?)?;
    g.reshape(&g.transpose(&mixed, &[0, 2, 1, 3])?, &[config.tokens(), config.hidden])
}

fn as_operator(g: &Scope, [q, k, v]: [Value; 3], config: &GeneratorConfig, rotary: Option<&Rotary>) -> Result<Value> {
    let turned = |name: &str, x: &Value| {
        let normed = if config.qk_norm == QkNorm::Off {
            x.clone()
        } else {
            let by_head = g.reshape(x, &[config.tokens(), config.heads, config.head_dim()])?;
            g.reshape(&qk_norm(&g.part(name), &by_head, config)?, &[config.tokens(), config.hidden])?
        };
        rotary.map_or(Ok(normed.clone()), |rotary| rotary.rotate(g, &normed))
    };
    g.attention([&turned("q_norm", &q)?, &turned("k_norm", &k)?, &v], config.heads, scale(config))
}

/// What the products of queries and keys are multiplied with.
fn scale(config: &GeneratorConfig) -> f32 {
    (config.head_dim() as f32).powf(-0.5)
}

/// The norm of the query or key vector of each head, over the last dimension.
fn qk_norm(g: &Scope, x: &Value, config: &GeneratorConfig) -> Result<Value> {
    match config.qk_norm {
        QkNorm::Rms => rms_norm(g, x, &g.parameter("weight", &[config.head_dim()], Layout::Same)?),
        QkNorm::L2 => {
            let squares = g.sum(&g.square(x), 3, true)?;
            g.div(x, &g.sqrt(&g.at_least(&squares, L2_LEAST)))
        }
        QkNorm::Off => Ok(x.clone()),
    }
}
