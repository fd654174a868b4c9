//! A few images through a block.

use super::super::attention::head::Head;
use super::super::matmul::{Factor, Matrix};
use super::super::norm::{ModulatedNorm, Modulation};
use super::super::simd::Kernel;
use super::super::swiglu::Activate;
use super::BlockSettings;
use super::weights::{Factors, Parts};

/// What the forward pass of a few images leaves for the backward pass; every matrix has a row for each token.
pub(super) struct Saved {
    /// Input of attention, after the norm.
    pub(super) normed1: Vec<f32>,
    /// Packed projection.
    pub(super) qkv: Vec<f32>,
    /// Merged heads.
    pub(super) mixed: Vec<f32>,
    /// Output of attention.
    pub(super) attended: Vec<f32>,
    /// x + gate * attended.
    pub(super) middle: Vec<f32>,
    /// Input of the MLP, after the norm.
    pub(super) normed2: Vec<f32>,
    /// Gate of SwiGLU before SiLU.
    pub(super) gate: Vec<f32>,
    /// Value of SwiGLU.
    pub(super) value: Vec<f32>,
    /// Output of the MLP.
    pub(super) mlp: Vec<f32>,
}

/// The two norms of a block with their columns of the modulation.
pub(super) fn norms(settings: &BlockSettings) -> [ModulatedNorm; 2] {
    let hidden = settings.sizes.hidden;
    [0, 3].map(|first| {
        let columns = Modulation { shift: first * hidden, scale: (first + 1) * hidden };
        ModulatedNorm { kind: settings.norm, columns }
    })
}

/// The forward pass of one task.
pub(super) struct Forward<'a> {
    settings: &'a BlockSettings,
    weights: &'a Parts<&'a [f32]>,
    factors: &'a Factors<'a>,
    tokens: usize,
    head: Head<'a>,
    /// Output of one head.
    head_out: Vec<f32>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(
        settings: &'a BlockSettings,
        (weights, factors): (&'a Parts<&'a [f32]>, &'a Factors<'a>),
        tokens: usize,
    ) -> Self {
        let head_dim = settings.sizes.head_dim;
        let head = Head::new(&settings.attention, tokens, head_dim);
        Self { settings, weights, factors, tokens, head, head_out: vec![0.0; tokens * head_dim] }
    }

    /// x and out `[images, tokens, hidden]`, modulation `[images, 6 * hidden]`.
    #[inline(always)]
    pub(super) fn run(&mut self, x: &[f32], modulation: &[f32], out: &mut [f32]) -> Saved {
        let (sizes, weights, factors) = (self.settings.sizes, self.weights, self.factors);
        let hidden = sizes.hidden;
        let [norm1, norm2] = norms(self.settings);
        let normed1 = self.normalise(norm1, x, weights.norm1, modulation);
        let qkv = dense(&normed1, (&factors.qkv, weights.qkv.bias), hidden);
        let mixed = self.mix(&qkv, weights.gains);
        let attended = dense(&mixed, (&factors.out, weights.out.bias), hidden);
        let middle = self.add_gated(x, &attended, modulation, 2);
        let normed2 = self.normalise(norm2, &middle, weights.norm2, modulation);
        let gate = dense(&normed2, (&factors.gate, weights.gate.bias), hidden);
        let value = dense(&normed2, (&factors.value, weights.value.bias), hidden);
        let mut activation = vec![0.0; gate.len()];
        Activate { gate: &gate, value: &value, out: &mut activation }.run();
        let mlp = dense(&activation, (&factors.down, weights.down.bias), sizes.inner);
        out.copy_from_slice(&self.add_gated(&middle, &mlp, modulation, 5));
        Saved { normed1, qkv, mixed, attended, middle, normed2, gate, value, mlp }
    }

    #[inline(always)]
    fn normalise(&self, norm: ModulatedNorm, x: &[f32], affine: &[f32], modulation: &[f32]) -> Vec<f32> {
        let hidden = self.settings.sizes.hidden;
        let image = self.tokens * hidden;
        let mut out = vec![0.0; x.len()];
        let images = out.chunks_exact_mut(image).zip(x.chunks_exact(image));
        for ((out, x), modulation) in images.zip(modulation.chunks_exact(6 * hidden)) {
            norm.forward(hidden, x, (affine, modulation), out);
        }
        out
    }

    #[inline(always)]
    fn mix(&mut self, qkv: &[f32], gains: &[f32]) -> Vec<f32> {
        let (hidden, head_dim) = (self.settings.sizes.hidden, self.settings.sizes.head_dim);
        let mut mixed = vec![0.0; qkv.len() / 3];
        let image = self.tokens * hidden;
        for (mixed, qkv) in mixed.chunks_exact_mut(image).zip(qkv.chunks_exact(3 * image)) {
            for head in 0..self.settings.attention.heads {
                self.head.forward(qkv, head, gains, &mut self.head_out);
                for (row, out) in mixed.chunks_exact_mut(hidden).zip(self.head_out.chunks_exact(head_dim)) {
                    row[head * head_dim..][..head_dim].copy_from_slice(out);
                }
            }
        }
        mixed
    }

    /// x + gate * y, the gate in the modulation's column block `column`.
    #[inline(always)]
    fn add_gated(&self, x: &[f32], y: &[f32], modulation: &[f32], column: usize) -> Vec<f32> {
        let hidden = self.settings.sizes.hidden;
        let image = self.tokens * hidden;
        let mut out = x.to_vec();
        let images = out.chunks_exact_mut(image).zip(y.chunks_exact(image));
        for ((out, y), modulation) in images.zip(modulation.chunks_exact(6 * hidden)) {
            let gate = &modulation[column * hidden..][..hidden];
            for (out, y) in out.chunks_exact_mut(hidden).zip(y.chunks_exact(hidden)) {
                for ((out, y), gate) in out.iter_mut().zip(y).zip(gate) {
                    *out += gate * y;
                }
            }
        }
        out
    }
}

/// x W^T + b for x of `width` columns.
#[inline(always)]
fn dense(x: &[f32], (factor, bias): (&Factor<'_>, &[f32]), width: usize) -> Vec<f32> {
    let (rows, out) = (x.len() / width, bias.len());
    let mut y = vec![0.0; rows * out];
    factor.multiply(&mut y, Matrix::new(x, rows, width));
    for row in y.chunks_exact_mut(out) {
        row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
    }
    y
}
