//! The parameters of a block as one flat vector.

use super::super::matmul::{Factor, Matrix};

/// Sizes of a block's parameters. They are packed in this order: gain and bias of the first norm, the packed projection
/// `[3 * hidden, hidden]` and its bias, gains of queries and keys `[2, head_dim]`, the output projection and its bias, gain
/// and bias of the second norm, then gate `[inner, hidden]`, value `[inner, hidden]` and output `[hidden, inner]` of SwiGLU,
/// each with its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Width of tokens.
    pub hidden: usize,
    /// Inner width of SwiGLU.
    pub inner: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// 1 for norms with a gain, 2 with gain and bias.
    pub norm_parts: usize,
}

/// The parameters, or their gradients, apart.
pub(super) struct Parts<S> {
    pub(super) norm1: S,
    pub(super) qkv: Dense<S>,
    pub(super) gains: S,
    pub(super) out: Dense<S>,
    pub(super) norm2: S,
    pub(super) gate: Dense<S>,
    pub(super) value: Dense<S>,
    pub(super) down: Dense<S>,
}

/// Weight `[out, in]` and bias `[out]` of a linear layer.
pub(super) struct Dense<S> {
    pub(super) weight: S,
    pub(super) bias: S,
}

/// The matrices of the linear layers, laid out for products.
pub(super) struct Factors<'a> {
    pub(super) qkv: Factor<'a>,
    pub(super) out: Factor<'a>,
    pub(super) gate: Factor<'a>,
    pub(super) value: Factor<'a>,
    pub(super) down: Factor<'a>,
}

impl<'a> Parts<&'a [f32]> {
    /// W^T of each layer: what inputs are multiplied with.
    pub(super) fn forward(&self) -> Factors<'a> {
        self.factors(|dense| dense.matrix().t())
    }

    /// W of each layer: what gradients of results are multiplied with.
    pub(super) fn backward(&self) -> Factors<'a> {
        self.factors(Dense::matrix)
    }

    fn factors(&self, matrix: impl Fn(&Dense<&'a [f32]>) -> Matrix<'a>) -> Factors<'a> {
        let factor = |dense| Factor::new(matrix(dense));
        let Self { qkv, out, gate, value, down, .. } = self;
        Factors { qkv: factor(qkv), out: factor(out), gate: factor(gate), value: factor(value), down: factor(down) }
    }
}

impl<'a> Dense<&'a [f32]> {
    /// W `[out, in]`.
    fn matrix(&self) -> Matrix<'a> {
        let out = self.bias.len();
        Matrix::new(self.weight, out, self.weight.len() / out)
    }
}

impl BlockSizes {
    /// Numbers in all parameters.
    #[must_use]
    pub fn total(&self) -> usize {
        let mut total = 0;
        self.walk(|len| total += len);
        total
    }

    /// Cuts a vector of [`total`](Self::total) numbers.
    pub(super) fn split<'a>(&self, mut flat: &'a [f32]) -> Parts<&'a [f32]> {
        self.walk(|len| {
            let (part, rest) = flat.split_at(len);
            flat = rest;
            part
        })
    }

    /// Cuts a vector of [`total`](Self::total) numbers to write to.
    pub(super) fn split_mut<'a>(&self, mut flat: &'a mut [f32]) -> Parts<&'a mut [f32]> {
        self.walk(|len| {
            let (part, rest) = std::mem::take(&mut flat).split_at_mut(len);
            flat = rest;
            part
        })
    }

    /// Takes the parts in their order.
    fn walk<S>(&self, mut take: impl FnMut(usize) -> S) -> Parts<S> {
        let Self { hidden, inner, head_dim, norm_parts } = *self;
        let dense = |take: &mut dyn FnMut(usize) -> S, out: usize, width: usize| {
            let weight = take(out * width);
            Dense { weight, bias: take(out) }
        };
        Parts {
            norm1: take(norm_parts * hidden),
            qkv: dense(&mut take, 3 * hidden, hidden),
            gains: take(2 * head_dim),
            out: dense(&mut take, hidden, hidden),
            norm2: take(norm_parts * hidden),
            gate: dense(&mut take, inner, hidden),
            value: dense(&mut take, inner, hidden),
            down: dense(&mut take, hidden, inner),
        }
    }
}
