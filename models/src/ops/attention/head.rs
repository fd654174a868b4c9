//! Attention of one head of one image, forward and backward, on scratch memory that is used again.

use drifting_spec::QkNorm;

use super::super::matmul::{Matrix, Threads, matmul};
use super::super::{EPSILON, simd};
use super::{Attention, L2_FLOOR};

/// Scratch memory of one head: everything is `[tokens, head_dim]` but the weights, `[tokens, tokens]`.
pub(in crate::ops) struct Head<'a> {
    settings: &'a Attention,
    tokens: usize,
    head_dim: usize,
    /// Queries and keys, normalised, scaled by the gain and rotated.
    turned: [Vec<f32>; 2],
    /// Queries and keys, only normalised.
    normalised: [Vec<f32>; 2],
    /// The factors that normalised them, per token.
    inverse: [Vec<f32>; 2],
    value: Vec<f32>,
    weights: Vec<f32>,
    /// Sum of the exponentials of each row of weights.
    sums: Vec<f32>,
}

impl<'a> Head<'a> {
    pub(in crate::ops) fn new(settings: &'a Attention, tokens: usize, head_dim: usize) -> Self {
        let matrix = || vec![0.0; tokens * head_dim];
        let pair = || [matrix(), matrix()];
        let inverse = [vec![0.0; tokens], vec![0.0; tokens]];
        let (weights, sums) = (vec![0.0; tokens * tokens], vec![0.0; tokens]);
        Self { settings, tokens, head_dim, turned: pair(), normalised: pair(), inverse, value: matrix(), weights, sums }
    }

    /// The output of head `index` of an image, `[tokens, head_dim]`.
    #[inline(always)]
    pub(in crate::ops) fn forward(&mut self, qkv: &[f32], index: usize, gains: &[f32], out: &mut [f32]) {
        self.load_logits(qkv, index, gains);
        let (n, d) = (self.tokens, self.head_dim);
        for (row, sum) in self.weights.chunks_exact_mut(n).zip(&mut self.sums) {
            *sum = simd::exponentials(row);
        }
        matmul(out, Matrix::new(&self.weights, n, n), Matrix::new(&self.value, n, d), 1.0, Threads::One);
        for (row, sum) in out.chunks_exact_mut(d).zip(&self.sums) {
            simd::scale(row, 1.0 / sum);
        }
    }

    /// Computes queries, keys, values and attention weights of head `index` from an image's `[tokens, 3 * hidden]`.
    #[inline(always)]
    pub(in crate::ops) fn load(&mut self, qkv: &[f32], index: usize, gains: &[f32]) {
        self.load_logits(qkv, index, gains);
        for row in self.weights.chunks_exact_mut(self.tokens) {
            simd::softmax(row);
        }
    }

    /// As [`load`](Self::load), but with the logits for weights.
    #[inline(always)]
    fn load_logits(&mut self, qkv: &[f32], index: usize, gains: &[f32]) {
        let (n, d) = (self.tokens, self.head_dim);
        let hidden = self.settings.heads * d;
        for (token, row) in qkv.chunks_exact(3 * hidden).enumerate() {
            let part = |i: usize| &row[i * hidden + index * d..][..d];
            for i in 0..2 {
                self.prepare(i, token, part(i), &gains[i * d..][..d]);
            }
            self.value[token * d..][..d].copy_from_slice(part(2));
        }
        let [q, k] = &self.turned;
        let scale = 1.0 / (d as f32).sqrt();
        matmul(&mut self.weights, Matrix::new(q, n, d), Matrix::new(k, n, d).t(), scale, Threads::One);
    }

    /// Normalises and rotates the query (`i` = 0) or key (1) of a token.
    #[inline(always)]
    fn prepare(&mut self, i: usize, token: usize, x: &[f32], gain: &[f32]) {
        let d = self.head_dim;
        let square = simd::dot(x, x);
        let inverse = match self.settings.qk_norm {
            QkNorm::Rms => 1.0 / (square / d as f32 + EPSILON).sqrt(),
            QkNorm::L2 => 1.0 / square.max(L2_FLOOR).sqrt(),
            QkNorm::Off => 1.0,
        };
        self.inverse[i][token] = inverse;
        let normalised = &mut self.normalised[i][token * d..][..d];
        let turned = &mut self.turned[i][token * d..][..d];
        for ((normalised, turned), x) in normalised.iter_mut().zip(turned.iter_mut()).zip(x) {
            *normalised = x * inverse;
            *turned = *normalised;
        }
        if self.settings.qk_norm == QkNorm::Rms {
            turned.iter_mut().zip(gain).for_each(|(turned, gain)| *turned *= gain);
        }
        rotate(self.settings, token, turned, 1.0);
    }
}

/// Rotates a vector by the position of a token, backwards with `direction` -1.
#[inline(always)]
fn rotate(settings: &Attention, token: usize, x: &mut [f32], direction: f32) {
    let Some(rotation) = &settings.rotation else { return };
    let half = x.len() / 2;
    let (cos, sin) = (&rotation.cos[token * half..][..half], &rotation.sin[token * half..][..half]);
    let (low, high) = x.split_at_mut(half);
    for i in 0..half {
        let (a, b, sin) = (low[i], high[i], sin[i] * direction);
        low[i] = a * cos[i] - b * sin;
        high[i] = b * cos[i] + a * sin;
    }
}

/// Scratch memory of the backward pass of one head.
pub(in crate::ops) struct Gradients {
    out: Vec<f32>,
    weights: Vec<f32>,
    turned: Vec<f32>,
}

impl Gradients {
    pub(in crate::ops) fn new(tokens: usize, head_dim: usize) -> Self {
        let weights = vec![0.0; tokens * tokens];
        Self { out: vec![0.0; tokens * head_dim], weights, turned: vec![0.0; tokens * head_dim] }
    }

    /// The gradients of a loaded head: of q, k, v into `[3, tokens, head_dim]`, of the gains into `[2, head_dim]`. `dy`
    /// is the gradient of the image's output, `[tokens, hidden]`, with the index of the head.
    #[inline(always)]
    pub(in crate::ops) fn backward(
        &mut self,
        head: &Head<'_>,
        (dy, index): (&[f32], usize),
        gains: &[f32],
        (packed, gain_grad): (&mut [f32], &mut [f32]),
    ) {
        let (n, d) = (head.tokens, head.head_dim);
        let hidden = head.settings.heads * d;
        for (out, row) in self.out.chunks_exact_mut(d).zip(dy.chunks_exact(hidden)) {
            out.copy_from_slice(&row[index * d..][..d]);
        }
        let (query_key, value_grad) = packed.split_at_mut(2 * n * d);
        let dy = Matrix::new(&self.out, n, d);
        matmul(value_grad, Matrix::new(&head.weights, n, n).t(), dy, 1.0, Threads::One);
        matmul(&mut self.weights, dy, Matrix::new(&head.value, n, d).t(), 1.0, Threads::One);
        for (grad, weights) in self.weights.chunks_exact_mut(n).zip(head.weights.chunks_exact(n)) {
            let along = simd::dot(grad, weights);
            grad.iter_mut().zip(weights).for_each(|(grad, weight)| *grad = (*grad - along) * weight);
        }
        let logits = Matrix::new(&self.weights, n, n);
        let scale = 1.0 / (d as f32).sqrt();
        for (i, out) in query_key.chunks_exact_mut(n * d).enumerate() {
            let (logits, other) = if i == 0 { (logits, &head.turned[1]) } else { (logits.t(), &head.turned[0]) };
            matmul(&mut self.turned, logits, Matrix::new(other, n, d), scale, Threads::One);
            let rows = self.turned.chunks_exact_mut(d).zip(out.chunks_exact_mut(d)).enumerate();
            for (token, (turned, out)) in rows {
                rotate(head.settings, token, turned, -1.0);
                let normalised = &head.normalised[i][token * d..][..d];
                let gain_grad = &mut gain_grad[i * d..][..d];
                let state = (normalised, head.inverse[i][token]);
                unnormalise(head.settings.qk_norm, turned, state, (&gains[i * d..][..d], gain_grad), out);
            }
        }
    }
}

/// Gradient through the normalisation of one query or key; `grad` is that of the scaled vector and is overwritten.
#[inline(always)]
fn unnormalise(
    kind: QkNorm,
    grad: &mut [f32],
    (normalised, inverse): (&[f32], f32),
    (gain, gain_grad): (&[f32], &mut [f32]),
    out: &mut [f32],
) {
    if kind == QkNorm::Rms {
        for i in 0..grad.len() {
            gain_grad[i] += grad[i] * normalised[i];
            grad[i] *= gain[i];
        }
    }
    let along = match kind {
        QkNorm::Rms => simd::dot(grad, normalised) / grad.len() as f32,
        QkNorm::L2 => simd::dot(grad, normalised),
        QkNorm::Off => 0.0,
    };
    for i in 0..out.len() {
        out[i] = inverse * (grad[i] - normalised[i] * along);
    }
}
