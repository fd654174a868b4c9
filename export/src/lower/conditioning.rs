//! The conditioning vector: class, style and alpha (paper appendix A.2).
//!
//! It stands there twice, one below the other: engines multiply and sum up a single row by other kernels than several,
//! whose last bits differ, and then an image would depend on how many share its batch. Twice one row are never a single
//! one.

use drifting_spec::{AlphaEmbedding, GeneratorConfig, StyleTables, names};

use super::layers::{linear_exact, rms_norm, silu};
use crate::graph::{Builder, DType, Data, GraphError, Layout, Result, Scope, Shape, Value};

/// Sinusoids of alpha: half of them cosines, half sines.
const FREQUENCIES: usize = 128;

/// Scale of the embedded alpha beside the class embedding.
const ALPHA_SCALE: f32 = 0.02;

/// What an image is asked to be.
pub(super) struct Condition {
    /// `[batch, 2, hidden]`, both rows the same.
    pub(super) vector: Value,
    /// The input `class`, `[batch]`.
    pub(super) class: Value,
}

/// Adds the inputs `style`, `class` and `alpha`, and sums them up.
pub(super) fn conditioning(builder: &Builder, config: &GeneratorConfig) -> Result<Condition> {
    let g = &builder.root();
    let style = (config.style_tokens > 0)
        .then(|| builder.input(names::STYLE, DType::I64, Shape::batched(&[config.style_tokens])));
    let class = builder.input(names::CLASS, DType::I64, Shape::batched(&[]));
    let alpha = builder.input(names::ALPHA, DType::F32, Shape::batched(&[]));

    let mut sum = g.reshape(&class_embedding(&g.part("class_embed"), &class, config)?, &[1, config.hidden])?;
    if let Some(style) = &style {
        sum = g.add(&sum, &style_embedding(&g.part("style_embed"), style, config)?)?;
    }
    let vector = g.add(&sum, &alpha_embedding(&g.part("alpha_embed"), &alpha, config)?)?;
    Ok(Condition { vector, class })
}

/// `[batch, 1, outputs]`: a linear layer of one of both rows of `condition` `[batch, 2, inputs]`, or of what was made of it.
pub(super) fn linear_of_condition(g: &Scope, condition: &Value, inputs: usize, outputs: usize) -> Result<Value> {
    g.skip(&linear_exact(g, condition, inputs, outputs)?, 1, 1)
}

/// Each entry twice: `[batch, ..]` of the sizes `behind` the batch becomes `[batch, 2, ..]`.
fn twice(g: &Scope, x: &Value, behind: &[usize]) -> Result<Value> {
    let once = g.reshape(x, &[&[1], behind].concat())?;
    g.concat(&once, &once, 1)
}

/// `[batch, hidden]`.
fn class_embedding(g: &Scope, class: &Value, config: &GeneratorConfig) -> Result<Value> {
    let table = g.parameter("weight", &[config.classes, config.hidden], Layout::Same)?;
    g.gather(&table, class)
}

/// The sum over the style tokens of their rows, `[batch, 2, hidden]`. Separate tables lie one below the other in one table, so token j's
/// indices start at `j * codes`.
fn style_embedding(g: &Scope, style: &Value, config: &GeneratorConfig) -> Result<Value> {
    let dims = [config.style_table_count(), config.style_codes, config.hidden];
    let table = g.parameter("weight", &dims, Layout::Rows)?;
    let rows = match config.style_tables {
        StyleTables::Separate => {
            let starts: Vec<i64> = (0..config.style_tokens).map(|token| (token * config.style_codes) as i64).collect();
            g.gather(&table, &g.add(style, &g.integers(&starts))?)?
        }
        StyleTables::Shared => g.gather(&table, style)?,
    };
    g.sum(&twice(g, &rows, &[config.style_tokens, config.hidden])?, 2, false)
}

/// `[batch, 2, hidden]`.
fn alpha_embedding(g: &Scope, alpha: &Value, config: &GeneratorConfig) -> Result<Value> {
    let hidden = config.hidden;
    let alpha = twice(g, alpha, &[1])?;
    let mlp = |x: &Value, inputs| {
        let inner = linear_exact(&g.part("in"), x, inputs, hidden)?;
        linear_exact(&g.part("out"), &silu(g, &inner)?, hidden, hidden)
    };
    match config.alpha_embedding {
        AlphaEmbedding::Mlp => mlp(&alpha, 1),
        AlphaEmbedding::Sinusoidal => {
            let embedded = mlp(&sinusoids(g, &alpha)?, 2 * FREQUENCIES)?;
            let norm = g.part("norm");
            let gain = norm.parameter("weight", &[hidden], Layout::Same)?;
            g.mul(&rms_norm(&norm, &embedded, &gain)?, &g.scalar(ALPHA_SCALE))
        }
    }
}

/// `[cos(alpha w_i), sin(alpha w_i)]` with w_i = exp(-ln(10000) i / 128): `[batch, 2, 1]` becomes `[batch, 2, 256]`.
fn sinusoids(g: &Scope, alpha: &Value) -> Result<Value> {
    let frequency = |i: usize| (-10_000f64.ln() * i as f64 / FREQUENCIES as f64).exp() as f32;
    let frequencies: Vec<f32> = (0..FREQUENCIES).map(frequency).collect();
    let name = "alpha_embed.frequencies";
    let data = Data::floats(&[1, FREQUENCIES], &frequencies);
    let data = data.ok_or_else(|| GraphError::new(name, "has another number of values than its shape says"))?;
    let angles = g.mul(alpha, &g.constant(name, data))?;
    g.concat(&g.cos(&angles), &g.sin(&angles), 2)
}
