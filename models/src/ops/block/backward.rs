//! The gradients of a few images through a block.

use super::super::attention::head::{Gradients, Head};
use super::super::matmul::{Factor, Matrix, add_matmul};
use super::super::norm::{Image, ImageGradients, ModulatedNorm};
use super::super::simd::Kernel;
use super::super::swiglu::{Activate, ActivateBack};
use super::BlockSettings;
use super::forward::{Saved, norms};
use super::weights::{Dense, Factors, Parts};

/// The backward pass of one task; its images' weight gradients are added up in `weights`.
pub(super) struct Backward<'a> {
    settings: &'a BlockSettings,
    parts: &'a Parts<&'a [f32]>,
    factors: &'a Factors<'a>,
    tokens: usize,
    head: Head<'a>,
    head_gradients: Gradients,
    /// Gradients of queries, keys and values of one head, `[3, tokens, head_dim]`.
    packed: Vec<f32>,
    /// Flat, as the weights.
    pub(super) weights: Vec<f32>,
}

impl<'a> Backward<'a> {
    pub(super) fn new(
        settings: &'a BlockSettings,
        (parts, factors): (&'a Parts<&'a [f32]>, &'a Factors<'a>),
        tokens: usize,
    ) -> Self {
        let head_dim = settings.sizes.head_dim;
        Self {
            settings,
            parts,
            factors,
            tokens,
            head: Head::new(&settings.attention, tokens, head_dim),
            head_gradients: Gradients::new(tokens, head_dim),
            packed: vec![0.0; 3 * tokens * head_dim],
            weights: vec![0.0; settings.sizes.total()],
        }
    }

    /// x and dy `[images, tokens, hidden]`, modulation `[images, 6 * hidden]`; writes their gradients.
    #[inline(always)]
    pub(super) fn run(
        &mut self,
        (x, modulation, dy): (&[f32], &[f32], &[f32]),
        saved: &Saved,
        (dx, dm): (&mut [f32], &mut [f32]),
    ) {
        let mut flat = std::mem::take(&mut self.weights);
        let mut grads = self.settings.sizes.split_mut(&mut flat);
        let [norm1, norm2] = norms(self.settings);

        let d_mlp = self.gate_back((dy, &saved.mlp, modulation), 5, dm);
        let d_normed2 = self.mlp_back(&d_mlp, saved, &mut grads);
        let affine = (self.parts.norm2, &mut *grads.norm2);
        let mut d_middle = self.norm_back(norm2, (&saved.middle, &d_normed2, modulation), affine, dm);
        add(&mut d_middle, dy);

        let d_attended = self.gate_back((&d_middle, &saved.attended, modulation), 2, dm);
        let d_mixed = self.dense_back(&d_attended, &saved.mixed, &self.factors.out, &mut grads.out);
        let d_qkv = self.attention_back(&d_mixed, &saved.qkv, grads.gains);
        let d_normed1 = self.dense_back(&d_qkv, &saved.normed1, &self.factors.qkv, &mut grads.qkv);
        let affine = (self.parts.norm1, &mut *grads.norm1);
        dx.copy_from_slice(&self.norm_back(norm1, (x, &d_normed1, modulation), affine, dm));
        add(dx, &d_middle);
        self.weights = flat;
    }

    /// Gradient of y in x + gate * y; that of the gate goes to its columns of `dm`.
    #[inline(always)]
    fn gate_back(&self, (dy, y, modulation): (&[f32], &[f32], &[f32]), column: usize, dm: &mut [f32]) -> Vec<f32> {
        let hidden = self.settings.sizes.hidden;
        let image = self.tokens * hidden;
        let mut out = vec![0.0; y.len()];
        let images = out.chunks_exact_mut(image).zip(dy.chunks_exact(image).zip(y.chunks_exact(image)));
        let rows = modulation.chunks_exact(6 * hidden).zip(dm.chunks_exact_mut(6 * hidden));
        for ((out, (dy, y)), (modulation, dm)) in images.zip(rows) {
            let gate = &modulation[column * hidden..][..hidden];
            let gate_grad = &mut dm[column * hidden..][..hidden];
            let tokens = dy.chunks_exact(hidden).zip(y.chunks_exact(hidden));
            for (out, (dy, y)) in out.chunks_exact_mut(hidden).zip(tokens) {
                for i in 0..hidden {
                    out[i] = gate[i] * dy[i];
                    gate_grad[i] += y[i] * dy[i];
                }
            }
        }
        out
    }

    #[inline(always)]
    fn mlp_back(&self, dy: &[f32], saved: &Saved, grads: &mut Parts<&mut [f32]>) -> Vec<f32> {
        let mut activation = vec![0.0; saved.gate.len()];
        let (gate, value) = (&saved.gate[..], &saved.value[..]);
        Activate { gate, value, out: &mut activation }.run();
        let d_activation = self.dense_back(dy, &activation, &self.factors.down, &mut grads.down);
        let (mut d_gate, mut d_value) = (activation, vec![0.0; saved.value.len()]);
        ActivateBack { gate, value, dy: &d_activation, dg: &mut d_gate, dv: &mut d_value }.run();
        let mut dx = self.dense_back(&d_gate, &saved.normed2, &self.factors.gate, &mut grads.gate);
        add(&mut dx, &self.dense_back(&d_value, &saved.normed2, &self.factors.value, &mut grads.value));
        dx
    }

    /// Gradient of x in x W^T + b; those of W and b are added to `grad`.
    #[inline(always)]
    fn dense_back(&self, dy: &[f32], x: &[f32], factor: &Factor<'_>, grad: &mut Dense<&mut [f32]>) -> Vec<f32> {
        let out = grad.bias.len();
        let rows = dy.len() / out;
        let width = x.len() / rows;
        let dy_matrix = Matrix::new(dy, rows, out);
        add_matmul(grad.weight, dy_matrix.t(), Matrix::new(x, rows, width));
        for row in dy.chunks_exact(out) {
            grad.bias.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let mut dx = vec![0.0; x.len()];
        factor.multiply(&mut dx, dy_matrix);
        dx
    }

    #[inline(always)]
    fn norm_back(
        &self,
        norm: ModulatedNorm,
        (x, dy, modulation): (&[f32], &[f32], &[f32]),
        (affine, affine_grad): (&[f32], &mut [f32]),
        dm: &mut [f32],
    ) -> Vec<f32> {
        let hidden = self.settings.sizes.hidden;
        let image = self.tokens * hidden;
        let mut out = vec![0.0; x.len()];
        let images = out.chunks_exact_mut(image).zip(x.chunks_exact(image).zip(dy.chunks_exact(image)));
        let rows = modulation.chunks_exact(6 * hidden).zip(dm.chunks_exact_mut(6 * hidden));
        for ((out, (x, dy)), (modulation, dm)) in images.zip(rows) {
            let scale = &modulation[norm.columns.scale..][..hidden];
            let gradients = ImageGradients { x: out, modulation: dm, affine: affine_grad };
            norm.backward(&Image { x, dy, affine, scale }, gradients);
        }
        out
    }

    #[inline(always)]
    fn attention_back(&mut self, dy: &[f32], qkv: &[f32], gains_grad: &mut [f32]) -> Vec<f32> {
        let (hidden, head_dim) = (self.settings.sizes.hidden, self.settings.sizes.head_dim);
        let (image, gains) = (self.tokens * hidden, self.parts.gains);
        let mut out = vec![0.0; qkv.len()];
        let images = dy.chunks_exact(image).zip(qkv.chunks_exact(3 * image));
        for (out, (dy, qkv)) in out.chunks_exact_mut(3 * image).zip(images) {
            for head in 0..self.settings.attention.heads {
                self.head.load(qkv, head, gains);
                let written = (&mut self.packed[..], &mut *gains_grad);
                self.head_gradients.backward(&self.head, (dy, head), gains, written);
                for (i, row) in self.packed.chunks_exact(head_dim).enumerate() {
                    let (part, token) = (i / self.tokens, i % self.tokens);
                    out[(token * 3 + part) * hidden + head * head_dim..][..head_dim].copy_from_slice(row);
                }
            }
        }
        out
    }
}

#[inline(always)]
fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}
