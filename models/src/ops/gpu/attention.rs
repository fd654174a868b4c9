//! Attention: heads in one kernel, softmaxes in another, products between them. Scores are computed once more on the way back.

use candle_core::{Device, Result, Tensor};
use drifting_kernels::{Argument, Launch, Output, WARP, launch, source};
use drifting_spec::QkNorm;

use super::super::EPSILON;
use super::super::attention::{Attention, L2_FLOOR};
use super::super::tensors::product::{product, sum_of_rows};
use super::super::tensors::reversible::{Back, reversible};
use super::{THREADS, factored, narrow, of_factors};

/// Numbers of a head at most.
const WIDEST: usize = 256;
/// Blocks at most that add up gradients of gains.
const BLOCKS: usize = 1024;

/// Whether kernels know such heads.
pub(in super::super) fn fits(head_dim: usize) -> bool {
    head_dim.is_multiple_of(2) && head_dim <= WIDEST
}

/// [`attention`](super::super::attention()) by kernels.
pub(in super::super) fn attention(qkv: &Tensor, gains: &Tensor, settings: &Attention) -> Result<Tensor> {
    let (y, back) = there_and_back(qkv, gains, settings)?;
    reversible([qkv, gains], y, move |_, dy| back(dy))
}

/// The result, and what makes the gradients of qkv and gains of its gradient.
pub(super) fn there_and_back(
    qkv: &Tensor,
    gains: &Tensor,
    settings: &Attention,
) -> Result<(Tensor, impl Back<2> + use<>)> {
    let pass = Pass::new(qkv, gains, settings)?;
    let [queries, keys, values] = pass.heads()?;
    let y = pass.join(&product(&pass.weights(&queries, &keys)?, &values)?)?;
    Ok((y, move |dy: &Tensor| pass.back(dy)))
}

struct Pass {
    qkv: Tensor,
    /// `[2, head_dim]`
    gains: Tensor,
    /// `[tokens, head_dim / 2]`, or anything.
    tables: [Tensor; 2],
    qk_norm: QkNorm,
    turns: bool,
    batch: usize,
    tokens: usize,
    heads: usize,
    dim: usize,
}

impl Pass {
    fn new(qkv: &Tensor, gains: &Tensor, settings: &Attention) -> Result<Self> {
        let (batch, tokens, width) = qkv.dims3()?;
        let gains = gains.detach().contiguous()?;
        let tables = match &settings.rotation {
            Some(rotation) => rotation.tables(tokens, qkv.device())?,
            None => [gains.clone(), gains.clone()],
        };
        let (heads, dim) = (settings.heads, width / 3 / settings.heads);
        let (qk_norm, turns) = (settings.qk_norm, settings.rotation.is_some());
        Ok(Self { qkv: qkv.detach().contiguous()?, gains, tables, qk_norm, turns, batch, tokens, heads, dim })
    }

    fn device(&self) -> &Device {
        self.qkv.device()
    }

    /// Heads of tokens of images.
    fn rows(&self) -> usize {
        self.batch * self.tokens * self.heads
    }

    /// `[batch, heads, tokens, head_dim]`
    fn split(&self) -> [usize; 4] {
        [self.batch, self.heads, self.tokens, self.dim]
    }

    fn sizes(&self) -> [Argument<'static>; 4] {
        [self.rows(), self.tokens, self.heads, self.dim].map(Argument::Count)
    }

    /// How queries and keys are made.
    fn ways(&self) -> [Argument<'static>; 4] {
        let (kind, least) = match self.qk_norm {
            QkNorm::Rms => (0, EPSILON),
            QkNorm::L2 => (1, L2_FLOOR),
            QkNorm::Off => (2, 0.0),
        };
        let share = (self.dim as f32).sqrt().recip();
        [
            Argument::Count(kind),
            Argument::Count(usize::from(self.turns)),
            Argument::Number(share),
            Argument::Number(least),
        ]
    }

    /// Queries, keys and values as factors of products; queries are divided by the root of their length.
    fn heads(&self) -> Result<[Tensor; 3]> {
        let given = [&self.qkv, &self.gains, &self.tables[0], &self.tables[1]].map(Argument::Input);
        let split = self.split();
        let [queries, keys, values] = launch(
            of_factors(&source::ATTENTION, ["heads_f32", "heads_bf16"]),
            Launch::rows(self.rows()),
            self.device(),
            [Output::factor(&split, narrow()); 3],
            &[&given[..], &self.sizes(), &self.ways()].concat(),
        )?;
        Ok([factored(queries)?, factored(keys)?, factored(values)?])
    }

    /// Softmax of the scores, `[batch, heads, tokens, tokens]`, a factor of products.
    fn weights(&self, queries: &Tensor, keys: &Tensor) -> Result<Tensor> {
        let scores = product(queries, &keys.t()?)?;
        let [weights] = launch(
            of_factors(&source::ATTENTION, ["softmax_f32", "softmax_bf16"]),
            Launch::rows(self.rows()),
            self.device(),
            [Output::factor(scores.dims(), narrow())],
            &[Argument::Input(&scores), Argument::Count(self.rows()), Argument::Count(self.tokens)],
        )?;
        factored(weights)
    }

    /// `[batch, heads, tokens, head_dim]` to `[batch, tokens, hidden]`.
    fn join(&self, x: &Tensor) -> Result<Tensor> {
        let [y] = launch(
            source::ATTENTION.kernel("heads_join"),
            Launch::over(x.elem_count(), THREADS),
            self.device(),
            [Output::f32(&[self.batch, self.tokens, self.heads * self.dim])],
            &[&[Argument::Input(x)][..], &self.sizes()].concat(),
        )?;
        Ok(y)
    }

    fn back(&self, dy: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let [queries, keys, values] = self.heads()?;
        let weights = self.weights(&queries, &keys)?;
        let [dy] = launch(
            of_factors(&source::ATTENTION, ["heads_split_f32", "heads_split_bf16"]),
            Launch::over(dy.elem_count(), THREADS),
            self.device(),
            [Output::factor(&self.split(), narrow())],
            &[&[Argument::Input(dy)][..], &self.sizes()].concat(),
        )?;
        let dy = factored(dy)?;
        let dvalues = product(&weights.t()?, &dy)?;
        let dweights = product(&dy, &values.t()?)?;
        // On the processor factors are wide again.
        let narrow = narrow() && !self.device().is_cpu();
        let name = if narrow { "softmax_back_bf16" } else { "softmax_back_f32" };
        let [dscores] = launch(
            source::ATTENTION.kernel(name),
            Launch::rows(self.rows()),
            self.device(),
            [Output::factor(dweights.dims(), narrow)],
            &[
                Argument::Input(&weights),
                Argument::Input(&dweights),
                Argument::Count(self.rows()),
                Argument::Count(self.tokens),
            ],
        )?;
        drop((weights, dweights));
        let (dqueries, dkeys) = (product(&dscores, &keys)?, product(&dscores.t()?, &queries)?);
        let blocks = self.rows().div_ceil(4).min(BLOCKS);
        let gradients = [&dqueries, &dkeys, &dvalues].map(Argument::Input);
        let given = [&self.qkv, &self.gains, &self.tables[0], &self.tables[1]].map(Argument::Input);
        let [dqkv, dgains] = launch(
            source::ATTENTION.kernel("heads_back"),
            Launch { grid: [blocks, 1, 1], threads: 4 * WARP, shared: 4 * 4 * 2 * self.dim },
            self.device(),
            [Output::f32(self.qkv.dims()), Output::f32(&[blocks, 2 * self.dim])],
            &[&given[..], &gradients, &self.sizes(), &self.ways()].concat(),
        )?;
        let dgains = match self.qk_norm {
            QkNorm::Rms => Some(sum_of_rows(&dgains)?.reshape((2, self.dim))?),
            QkNorm::L2 | QkNorm::Off => None,
        };
        Ok([Some(dqkv), dgains])
    }
}
