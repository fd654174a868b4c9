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
pub(super) struct Saved {
    body: Vec<Kept>,
    skip: Kept,
}

/// Gradients of all weights, added up, and memory for patches.
pub(super) struct Gradients {
    /// Flat, as the weights; empty if they have none.
    pub(super) weights: Vec<f32>,
    buffer: Vec<f32>,
}

impl Gradients {
    pub(super) fn new(len: usize) -> Self {
        Self { weights: vec![0.0; len], buffer: Vec::new() }
    }
}

impl Pass<'_> {
    pub(super) fn forward(&self, x: &[f32], out: &mut [f32], buffer: &mut Vec<f32>) -> Saved {
        let (mut body, mut y) = (Vec::new(), Vec::new());
        for (i, layer) in self.body.iter().enumerate() {
            let (kept, next) = layer.forward(if i == 0 { x } else { &y }, buffer);
            body.push(kept);
            y = next;
        }
        let (skip, around) = match &self.skip {
            Some(layer) => layer.forward(x, buffer),
            None => (Kept::default(), Vec::new()),
        };
        match (self.adds, &self.skip) {
            (false, _) => out.copy_from_slice(&y),
            (true, None) => simd::dispatch_kernel(Join { x, y: &y, out }),
            (true, Some(_)) => simd::dispatch_kernel(Join { x: &around, y: &y, out }),
        }
        Saved { body, skip }
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

    /// Writes the gradient of x to `dx`, if there is one, and adds those of the weights.
    pub(super) fn backward(
        &self,
        (x, out, dy): (&[f32], &[f32], &[f32]),
        saved: &Saved,
        dx: Option<&mut [f32]>,
        gradients: &mut Gradients,
    ) {
        let mut dy = dy.to_vec();
        if self.adds {
            simd::dispatch_kernel(Mask { out, gradient: &mut dy });
        }
        let around = self.adds.then(|| match &self.skip {
            None => dy.clone(),
            Some(layer) => {
                let first = self.body.iter().map(Layer::len).sum();
                layer_back(layer, (&saved.skip, &dy), (first, || x), gradients, dx.is_some())
            }
        });
        let mut end: usize = self.body.iter().map(Layer::len).sum();
        for (i, layer) in self.body.iter().enumerate().rev() {
            end -= layer.len();
            let read = (&saved.body[i], &dy[..]);
            dy = match i {
                0 => layer_back(layer, read, (end, || x), gradients, dx.is_some()),
                _ => {
                    let before = || self.body[i - 1].normalised(&saved.body[i - 1]);
                    layer_back(layer, read, (end, before), gradients, true)
                }
            };
        }
        match (dx, around) {
            (Some(dx), Some(around)) => simd::dispatch_kernel(Add { x: &dy, y: &around, out: dx }),
            (Some(dx), None) => dx.copy_from_slice(&dy),
            (None, _) => {}
        }
    }
}

/// The gradient of a layer's input if it is `needed`, nothing otherwise. Those of its weights, which begin at a position of
/// the flat ones, are added to `gradients` if there are any; only they read the layer's input.
fn layer_back<T: AsRef<[f32]>>(
    layer: &Layer<'_>,
    (kept, dy): (&Kept, &[f32]),
    (first, input): (usize, impl FnOnce() -> T),
    gradients: &mut Gradients,
    needed: bool,
) -> Vec<f32> {
    let Gradients { weights, buffer } = gradients;
    let convolved = if weights.is_empty() {
        layer.norm_back(kept, dy, &mut [])
    } else {
        let (kernel, affine) = weights[first..first + layer.len()].split_at_mut(layer.kernel_len());
        let convolved = layer.norm_back(kept, dy, affine);
        layer.add_weight_gradient(input().as_ref(), &convolved, kernel, buffer);
        convolved
    };
    if needed { layer.input_gradient(&convolved, buffer) } else { Vec::new() }
}

/// out = ReLU(x + y).
struct Join<'a> {
    x: &'a [f32],
    y: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((out, x), y) in self.out.iter_mut().zip(self.x).zip(self.y) {
            let sum = x + y;
            // In this order NaN stays NaN.
            *out = if sum < 0.0 { 0.0 } else { sum };
        }
    }
}

/// Removes the gradient where ReLU gave 0.
struct Mask<'a> {
    out: &'a [f32],
    gradient: &'a mut [f32],
}

impl Kernel for Mask<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (gradient, &out) in self.gradient.iter_mut().zip(self.out) {
            *gradient = if out > 0.0 { *gradient } else { 0.0 };
        }
    }
}

/// out = x + y.
struct Add<'a> {
    x: &'a [f32],
    y: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((out, x), y) in self.out.iter_mut().zip(self.x).zip(self.y) {
            *out = x + y;
        }
    }
}
