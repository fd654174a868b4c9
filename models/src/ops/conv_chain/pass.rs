//! A few images through a chain of convolutions, and their gradients back.

use super::super::simd::{self, Kernel};
use super::layer::{Kept, Layer};

/// The layers of a chain.
pub(super) struct Pass<'a> {
    pub(super) body: Vec<Layer<'a>>,
    pub(super) skip: Option<Layer<'a>>,
    /// Whether there is a skip connection, with ReLU after the sum.
    pub(super) adds: bool,
}

/// What the forward pass of a few images leaves for the backward pass.
#[derive(Default)]
pub(super) struct Saved {
    body: Vec<Kept>,
    skip: Kept,
}

/// Memory of a task, which one step leaves to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// Of a convolution.
    buffer: Vec<f32>,
    /// Maps.
    maps: [Vec<f32>; 2],
}

/// So many numbers of some memory, whatever they are.
fn some(memory: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    &mut memory[..len]
}

impl Pass<'_> {
    /// Writes the result to `out` and what the backward pass needs to `saved`.
    pub(super) fn forward(&self, x: &[f32], out: &mut [f32], saved: &mut Saved, scratch: &mut Scratch) {
        let Scratch { buffer, maps: [map, _] } = scratch;
        let Saved { body, skip } = saved;
        body.resize_with(self.body.len(), Kept::default);
        let mut len = 0;
        for (i, (layer, kept)) in self.body.iter().zip(&mut *body).enumerate() {
            layer.forward(if i == 0 { x } else { &map[..len] }, kept, buffer);
            len = layer.out_len(kept);
            match i + 1 == self.body.len() {
                true => layer.normalise(kept, out),
                false => layer.normalise(kept, some(map, len)),
            }
        }
        match (self.adds, &self.skip) {
            (false, _) => {}
            (true, None) => simd::dispatch_kernel(Join { x, out }),
            (true, Some(layer)) => {
                layer.forward(x, skip, buffer);
                let x = some(map, out.len());
                layer.normalise(skip, x);
                simd::dispatch_kernel(Join { x, out });
            }
        }
    }

    /// Prepares the forward pass.
    pub(super) fn prepare(&mut self) {
        self.body.iter_mut().chain(&mut self.skip).for_each(Layer::prepare);
    }

    /// Prepares the backward pass, for which the gradient of the input is needed or not.
    pub(super) fn turn(&mut self, input: bool) {
        let first = usize::from(!input);
        self.body.iter_mut().skip(first).for_each(Layer::turn);
        if input && let Some(layer) = &mut self.skip {
            layer.turn();
        }
    }

    /// Writes the gradient of x to `dx`, if there is one, and adds those of the weights to `weights`, if there are any.
    pub(super) fn backward(
        &self,
        (x, out, dy): (&[f32], &[f32], &[f32]),
        saved: &Saved,
        mut dx: Option<&mut [f32]>,
        weights: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Scratch { buffer, maps: [map, other] } = scratch;
        let mut end: usize = self.body.iter().map(Layer::len).sum();
        if let (true, Some(layer)) = (self.adds, &self.skip) {
            let gradient = some(map, dy.len());
            simd::dispatch_kernel(Mask { out, dy, gradient });
            layer_back(layer, (&saved.skip, gradient), (end, x), weights, buffer);
            if let Some(dx) = &mut dx {
                layer.input_gradient(gradient, dx, buffer);
            }
        }
        let gradient = some(map, dy.len());
        match self.adds {
            true => simd::dispatch_kernel(Mask { out, dy, gradient }),
            false => gradient.copy_from_slice(dy),
        }
        let mut len = dy.len();
        for (i, layer) in self.body.iter().enumerate().skip(1).rev() {
            end -= layer.len();
            // Only the gradients of weights need the layer's input again.
            let (before, kept) = (&self.body[i - 1], &saved.body[i - 1]);
            let input = some(other, if weights.is_empty() { 0 } else { before.out_len(kept) });
            if !input.is_empty() {
                before.normalise(kept, input);
            }
            let gradient = &mut map[..len];
            layer_back(layer, (&saved.body[i], gradient), (end, input), weights, buffer);
            len = layer.input_len(gradient);
            layer.input_gradient(gradient, some(other, len), buffer);
            std::mem::swap(map, other);
        }
        let (Some(layer), Some(kept)) = (self.body.first(), saved.body.first()) else { return };
        let gradient = &mut map[..len];
        layer_back(layer, (kept, gradient), (0, x), weights, buffer);
        match (dx, self.adds) {
            (None, _) => {}
            (Some(dx), false) => layer.input_gradient(gradient, dx, buffer),
            (Some(dx), true) => {
                let through = some(other, dx.len());
                layer.input_gradient(gradient, through, buffer);
                match &self.skip {
                    Some(_) => simd::dispatch_kernel(Add { x: through, to: dx }),
                    None => {
                        simd::dispatch_kernel(Mask { out, dy, gradient: dx });
                        simd::dispatch_kernel(Add { x: through, to: dx });
                    }
                }
            }
        }
    }
}

/// Replaces the gradient of a layer's result by that of the convolved maps. Those of its weights, which begin at a position of
/// the flat ones, are added to `weights` if there are any; only they read the layer's `input`.
fn layer_back(
    layer: &Layer<'_>,
    (kept, gradient): (&Kept, &mut [f32]),
    (first, input): (usize, &[f32]),
    weights: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    if weights.is_empty() {
        return layer.norm_back(kept, gradient, &mut []);
    }
    let (kernel, affine) = weights[first..first + layer.len()].split_at_mut(layer.kernel_len());
    layer.norm_back(kept, gradient, affine);
    layer.add_weight_gradient(input, gradient, kernel, buffer);
}

/// out = ReLU(x + out).
struct Join<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (out, x) in self.out.iter_mut().zip(self.x) {
            let sum = x + *out;
            // In this order NaN stays NaN.
            *out = if sum < 0.0 { 0.0 } else { sum };
        }
    }
}

/// The gradient where ReLU did not give 0.
struct Mask<'a> {
    out: &'a [f32],
    dy: &'a [f32],
    gradient: &'a mut [f32],
}

impl Kernel for Mask<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((gradient, dy), &out) in self.gradient.iter_mut().zip(self.dy).zip(self.out) {
            *gradient = if out > 0.0 { *dy } else { 0.0 };
        }
    }
}

/// Adds x.
struct Add<'a> {
    x: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.to.iter_mut().zip(self.x).for_each(|(to, x)| *to += x);
    }
}
