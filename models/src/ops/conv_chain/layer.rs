//! One convolution and its norm, on plain values.

use candle_core::{Result, bail};

use super::super::conv::Convolution;
use super::super::group_norm::{self, Affine, GroupNorm};
use super::ConvNorm;

/// A layer over images of a known size.
pub(super) struct Layer {
    conv: Convolution,
    norm: GroupNorm,
    /// Where its parameters begin, and the sizes of the kernel and of scale and bias.
    start: usize,
    sizes: [usize; 2],
}

/// What the gradients of a layer need.
#[derive(Default)]
pub(super) struct Kept {
    /// What the layer was given, if it was another layer's result.
    pub(super) input: Vec<f32>,
    /// What the convolution made.
    convolved: Vec<f32>,
    /// Of the norm.
    statistics: Vec<f32>,
}

impl Layer {
    /// For images `[n, height, width, channels]`, with parameters that begin at `start`.
    pub(super) fn new(images: (usize, usize, usize, usize), settings: &ConvNorm, start: usize) -> Result<Self> {
        let conv = Convolution::new(images, settings.kernel, settings.conv)?;
        let (groups, sizes) = (settings.norm.groups, settings.sizes());
        if groups == 0 || sizes[1] % groups != 0 {
            bail!("group norm of {} channels: {groups} groups; the channels must be a multiple of it", sizes[1]);
        }
        Ok(Self { conv, norm: settings.norm, start, sizes })
    }

    /// Size of the result.
    pub(super) fn result(&self) -> (usize, usize, usize, usize) {
        self.conv.result()
    }

    /// The kernel and the norm's parameters among all.
    fn parts<'a>(&self, parameters: &'a [f32]) -> (&'a [f32], Affine<'a>) {
        let [kernel, channels] = self.sizes;
        let (weight, rest) = parameters[self.start..].split_at(kernel);
        let (scale, bias) = rest[..2 * channels].split_at(channels);
        (weight, Affine { settings: self.norm, scale, bias })
    }

    /// The result, and what its gradients need if they are asked for.
    pub(super) fn forward(&self, parameters: &[f32], x: &[f32], keep: bool) -> (Vec<f32>, Kept) {
        let (weight, affine) = self.parts(parameters);
        let convolved = self.conv.values(x, weight);
        let (y, statistics) = group_norm::forward(affine, self.result().0, &convolved);
        (y, if keep { Kept { input: Vec::new(), convolved, statistics } } else { Kept::default() })
    }

    /// The gradient of `x`; those of the parameters are written to their place in `slopes`, unless it is empty.
    pub(super) fn backward(
        &self,
        parameters: &[f32],
        (x, kept): (&[f32], &Kept),
        dy: &[f32],
        slopes: &mut [f32],
    ) -> Vec<f32> {
        let (weight, affine) = self.parts(parameters);
        let between = (kept.convolved.as_slice(), dy);
        let (dy, of_norm) = group_norm::backward(affine, self.result().0, between, &kept.statistics);
        if !slopes.is_empty() {
            let (to_kernel, rest) = slopes[self.start..].split_at_mut(self.sizes[0]);
            to_kernel.copy_from_slice(&self.conv.weight_gradient(x, &dy));
            rest[..of_norm.len()].copy_from_slice(&of_norm);
        }
        self.conv.input_gradient(weight, &dy)
    }
}
