//! Multi-head attention, spelled out.

use drifting_spec::{GeneratorConfig, QkNorm};

use super::layers::{linear, rms_norm};
use super::rotary::Rotary;
use crate::graph::{Layout, Result, Scope, Value};

/// The least sum of squares whose root an L2 norm divides by.
const L2_LEAST: f32 = 1e-12;

/// Attention over the tokens `[batch, tokens, hidden]`.
///
/// Queries and keys are normalised and rotated as `[batch, tokens, heads, head dim]`, so that each of them is
/// transposed only once.
pub(super) fn attention(g: &Scope, x: &Value, config: &GeneratorConfig, rotary: Option<&Rotary>) -> Result<Value> {
    let (hidden, heads, head_dim) = (config.hidden, config.heads, config.head_dim());
    let qkv = linear(&g.part("qkv"), x, hidden, 3 * hidden)?;
    let [q, k, v] = g.split(&qkv)?;
    let by_head = |x: &Value| g.reshape(x, &[config.tokens(), heads, head_dim]);
    let turned = |name: &str, x: &Value| {
        let normed = qk_norm(&g.part(name), &by_head(x)?, config)?;
        rotary.map_or(Ok(normed.clone()), |rotary| rotary.rotate(g, &normed))
    };
    let (q, k) = (turned("q_norm", &q)?, turned("k_norm", &k)?);

    let q = g.mul(&g.transpose(&q, &[0, 2, 1, 3])?, &g.scalar((head_dim as f32).powf(-0.5)))?;
    let weights = g.softmax(&g.matmul(&q, &g.transpose(&k, &[0, 2, 3, 1])?)?);
    let mixed = g.matmul(&weights, &g.transpose(&by_head(&v)?, &[0, 2, 1, 3])?)?;
    let joined = g.reshape(&g.transpose(&mixed, &[0, 2, 1, 3])?, &[config.tokens(), hidden])?;
    linear(&g.part("out"), &joined, hidden, hidden)
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
