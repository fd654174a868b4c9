//! Rotary position embedding by constant tables.

use drifting_spec::{GeneratorConfig, Rope};

use crate::graph::{Data, GraphError, Result, Scope, Value};
use crate::settings::Profile;

const BASE: f64 = 10_000.0;

/// The tables of a rotation.
pub(super) enum Rotary {
    /// For queries and keys `[batch, tokens, heads, head dim]`.
    Tables {
        /// `[1, tokens, 1, head dim]`.
        cos: Value,
        /// The same; the first half bears a minus sign, so that a rotation is two products and a sum.
        sin: Value,
    },
    /// For queries and keys `[batch, tokens, hidden]`.
    Operator {
        /// Cosines and sines, `[tokens, head dim / 2]`.
        tables: [Value; 2],
        /// The row of every token, `[batch, tokens]`.
        positions: Value,
        heads: usize,
    },
}

impl Rotary {
    /// The tables of `config`; none if it does not rotate. `class` `[batch]` tells the batch.
    pub(super) fn new(g: &Scope, config: &GeneratorConfig, class: &Value) -> Result<Option<Self>> {
        let angle: &dyn Fn(usize, usize) -> f64 = match config.rope {
            Rope::OneD => &|token, pair| one_d(config, token, pair),
            Rope::TwoD => &|token, pair| two_d(config, token, pair),
            Rope::Off => return Ok(None),
        };
        let (tokens, pairs) = (config.tokens(), config.head_dim() / 2);
        let table = |name: &str, dims: &[usize], value: &dyn Fn(usize, usize) -> f64| {
            let width = dims.last().copied().unwrap_or_default();
            let entry = |token| (0..width).map(move |i| value(token, i) as f32);
            let values: Vec<f32> = (0..tokens).flat_map(entry).collect();
            let data = Data::floats(dims, &values);
            let data = data.ok_or_else(|| GraphError::new(name, "the head dimension must be even"))?;
            Ok::<_, GraphError>(g.constant(name, data))
        };
        if g.profile() == Profile::Ort {
            let dims = [tokens, pairs];
            let cos = table("rotary.cos", &dims, &|token, i| angle(token, i).cos())?;
            let sin = table("rotary.sin", &dims, &|token, i| angle(token, i).sin())?;
            let positions = g.part("rotary").positions(class, tokens)?;
            return Ok(Some(Self::Operator { tables: [cos, sin], positions, heads: config.heads }));
        }
        let dims = [1, tokens, 1, 2 * pairs];
        let cos = table("rotary.cos", &dims, &|token, i| angle(token, i % pairs).cos())?;
        let sign = |i| if i < pairs { -1.0 } else { 1.0 };
        let sin = table("rotary.sin", &dims, &|token, i| sign(i) * angle(token, i % pairs).sin())?;
        Ok(Some(Self::Tables { cos, sin }))
    }

    /// `[x1 cos - x2 sin, x2 cos + x1 sin]` for the halves x1, x2 of each head.
    pub(super) fn rotate(&self, g: &Scope, x: &Value) -> Result<Value> {
        match self {
            Self::Tables { cos, sin } => {
                let [first, second] = g.split(x)?;
                let swapped = g.concat(&second, &first, 3)?;
                g.add(&g.mul(x, cos)?, &g.mul(&swapped, sin)?)
            }
            Self::Operator { tables, positions, heads } => g.rotary_embedding(x, tables, positions, *heads),
        }
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
