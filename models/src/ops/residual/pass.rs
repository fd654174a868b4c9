//! A few images through a residual block, and their gradients back.

use super::super::simd::{self, Kernel};
use super::layer::{Kept, Layer};

/// The layers of a block.
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
        let mut gradient = dy.to_vec();
        if self.adds {
            simd::dispatch_kernel(Mask { out, gradient: &mut gradient });
        }
        let around = self.adds.then(|| gradient.clone());
        let Gradients { weights, buffer } = gradients;
        let mut end: usize = self.body.iter().map(Layer::len).sum();
        let body_end = end;
        for (i, layer) in self.body.iter().enumerate().rev() {
            let before;
            let input = match i {
                _ if weights.is_empty() => None,
                0 => Some(x),
                _ => {
                    before = self.body[i - 1].normalised(&saved.body[i - 1]);
                    Some(&before[..])
                }
            };
            let own = if weights.is_empty() { &mut [][..] } else { &mut weights[end - layer.len()..end] };
            let convolved = back(layer, (&saved.body[i], input), &gradient, own, buffer);
            end -= layer.len();
            if i > 0 || dx.is_some() {
                gradient = layer.input_gradient(&convolved, buffer);
            }
        }
        let mut around = around;
        if let (Some(layer), Some(dy)) = (&self.skip, &mut around) {
            let input = (!weights.is_empty()).then_some(x);
            let own = if weights.is_empty() { &mut [][..] } else { &mut weights[body_end..] };
            let convolved = back(layer, (&saved.skip, input), dy, own, buffer);
            if dx.is_some() {
                *dy = layer.input_gradient(&convolved, buffer);
            }
        }
        if let Some(dx) = dx {
            match around {
                Some(around) => simd::dispatch_kernel(Add { x: &gradient, y: &around, out: dx }),
                None => dx.copy_from_slice(&gradient),
            }
        }
    }
}

/// The gradient of a layer's convolved maps. Those of its weights are added to `own` if its input is given.
fn back(
    layer: &Layer<'_>,
    (kept, input): (&Kept, Option<&[f32]>),
    dy: &[f32],
    own: &mut [f32],
    buffer: &mut Vec<f32>,
) -> Vec<f32> {
    let Some(input) = input else { return layer.norm_back(kept, dy, &mut []) };
    let kernel = own.len() - layer.affine_len();
    let convolved = layer.norm_back(kept, dy, &mut own[kernel..]);
    layer.add_weight_gradient(input, &convolved, own, buffer);
    convolved
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
