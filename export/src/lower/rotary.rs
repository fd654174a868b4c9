//! Rotary position embedding by constant tables.

use drifting_spec::{GeneratorConfig, Rope};

use crate::graph::{Data, GraphError, Result, Scope, Value};

const BASE: f64 = 10_000.0;

/// The tables of a rotation, `[1, tokens, 1, head dim]`, for queries and keys `[batch, tokens, heads, head dim]`.
pub(super) struct Rotary {
    cos: Value,
    /// The first half bears a minus sign, so that a rotation is two products and a sum.
    sin: Value,
}

impl Rotary {
    /// The tables of `config`; none if it does not rotate.
    pub(super) fn new(g: &Scope, config: &GeneratorConfig) -> Result<Option<Self>> {
        let angle: &dyn Fn(usize, usize) -> f64 = match config.rope {
            Rope::OneD => &|token, pair| one_d(config, token, pair),
            Rope::TwoD => &|token, pair| two_d(config, token, pair),
            Rope::Off => return Ok(None),
        };
        let (tokens, pairs) = (config.tokens(), config.head_dim() / 2);
        let table = |name: &str, value: &dyn Fn(usize, usize) -> f64| {
            let entry = |token| (0..2 * pairs).map(move |i| value(token, i) as f32);
            let values: Vec<f32> = (0..tokens).flat_map(entry).collect();
            let data = Data::floats(&[1, tokens, 1, 2 * pairs], &values);
            let data = data.ok_or_else(|| GraphError::new(name, "the head dimension must be even"))?;
            Ok(g.constant(name, data))
        };
        let cos = table("rotary.cos", &|token, i| angle(token, i % pairs).cos())?;
        let sign = |i| if i < pairs { -1.0 } else { 1.0 };
        let sin = table("rotary.sin", &|token, i| sign(i) * angle(token, i % pairs).sin())?;
        Ok(Some(Self { cos, sin }))
    }

    /// `[x1 cos - x2 sin, x2 cos + x1 sin]` for the halves x1, x2 of the last dimension.
    pub(super) fn rotate(&self, g: &Scope, x: &Value) -> Result<Value> {
        let [first, second] = g.split(x)?;
        let swapped = g.concat(&second, &first, 3)?;
        g.add(&g.mul(x, &self.cos)?, &g.mul(&swapped, &self.sin)?)
    }
}

/// Positions over the whole sequence, register tokens included.
fn one_d(config: &GeneratorConfig, token: usize, pair: usize) -> f64 {
    let pairs = config.head_dim() / 2;
    token as f64 * BASE.powf(-(pair as f64) / pairs as f64)
}

/// The first half of the pairs by row, the second by column; register tokens are not rotated.
fn two_d(config: &GeneratorConfig, token: usize, pair: usize) -> f64 {
    let Some(patch) = token.checked_sub(config.registers) else { return 0.0 };
    let (columns, half) = (config.grid().1, config.head_dim() / 4);
    let (position, pair) = if pair < half { (patch / columns, pair) } else { (patch % columns, pair - half) };
    position as f64 * BASE.powf(-(pair as f64) / half as f64)
}
