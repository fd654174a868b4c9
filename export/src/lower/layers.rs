//! Linear, SiLU and the norms.

use drifting_spec::Norm;

use crate::graph::{Layout, Result, Scope, Value};
use crate::settings::Profile;

/// Added to the mean square, or to the variance, before the square root.
pub(super) const NORM_EPSILON: f32 = 1e-6;

/// `x W^T + b` for the parameters `weight` `[outputs, inputs]` and `bias` `[outputs]` of `g`, computed in the numbers of
/// the profile; the result is f32.
pub(super) fn linear(g: &Scope, x: &Value, inputs: usize, outputs: usize) -> Result<Value> {
    Ok(g.full(&linear_low(g, x, inputs, outputs)?))
}

/// As [`linear`], but the result keeps the numbers of the profile.
pub(super) fn linear_low(g: &Scope, x: &Value, inputs: usize, outputs: usize) -> Result<Value> {
    if g.profile() == Profile::Int8 {
        let product = g.product_in_eight_bits(x, "weight", &[outputs, inputs])?;
        return g.add(&product, &g.parameter("bias", &[outputs], Layout::Same)?);
    }
    let low = g.product_type();
    let weight = g.parameter_as("weight", &[outputs, inputs], Layout::Transposed, low)?;
    let bias = g.parameter_as("bias", &[outputs], Layout::Same, low)?;
    g.add(&g.matmul(&g.low(x), &weight)?, &bias)
}

/// As [`linear`], in f32 whatever the profile: what works on the condition, the first layer and the last.
pub(super) fn linear_exact(g: &Scope, x: &Value, inputs: usize, outputs: usize) -> Result<Value> {
    let weight = g.parameter("weight", &[outputs, inputs], Layout::Transposed)?;
    let bias = g.parameter("bias", &[outputs], Layout::Same)?;
    g.add(&g.matmul(x, &weight)?, &bias)
}

/// `x * sigmoid(x)`.
pub(super) fn silu(g: &Scope, x: &Value) -> Result<Value> {
    g.mul(x, &g.sigmoid(x))
}

/// The norm before attention, MLP and final layer; its gain (and bias) are parameters if `affine`.
///
/// A norm without them gets ones (and zeros): engines fuse only the norm that has them.
pub(super) fn norm(g: &Scope, x: &Value, width: usize, kind: Norm, affine: bool) -> Result<Value> {
    let gain = if affine { g.parameter("weight", &[width], Layout::Same)? } else { g.filled(width, 1.0) };
    match kind {
        Norm::Rms => rms_norm(g, x, &gain),
        Norm::Layer => {
            let bias = if affine { g.parameter("bias", &[width], Layout::Same)? } else { g.filled(width, 0.0) };
            layer_norm(g, x, &gain, &bias)
        }
    }
}

/// `x / sqrt(mean(x^2) + epsilon) * gain`, with the quotient as a product by `1 / sqrt`: the one spelling that both
/// ONNX Runtime and rten fuse.
pub(super) fn rms_norm(g: &Scope, x: &Value, gain: &Value) -> Result<Value> {
    if g.profile() == Profile::Ort {
        return Ok(g.rms_normalization(x, gain, NORM_EPSILON));
    }
    let mean_square = g.mean(&g.square(x))?;
    let root = g.sqrt(&g.add(&mean_square, &g.scalar(NORM_EPSILON))?);
    let inverse = g.div(&g.scalar(1.0), &root)?;
    g.mul(&g.mul(x, &inverse)?, gain)
}

/// `(x - mean) / sqrt(variance + epsilon) * gain + bias`.
fn layer_norm(g: &Scope, x: &Value, gain: &Value, bias: &Value) -> Result<Value> {
    if g.profile() == Profile::Ort {
        return Ok(g.layer_normalization(x, gain, bias, NORM_EPSILON));
    }
    let centred = g.sub(x, &g.mean(x)?)?;
    let variance = g.mean(&g.square(&centred))?;
    let root = g.sqrt(&g.add(&variance, &g.scalar(NORM_EPSILON))?);
    g.add(&g.mul(&g.div(&centred, &root)?, gain)?, bias)
}

/// Convolution of `[batch, channels, height, width]` by the parameter `weight` `[out, channels, side, side]`; sides stay.
/// Computed in the numbers of the profile (8 bits are for linear layers only); the result is f32.
pub(super) fn conv(g: &Scope, x: &Value, out: usize, side: usize) -> Result<Value> {
    let low = g.convolution_type();
    let weight = g.parameter_as("weight", &[out, channels(g, x)?, side, side], Layout::Same, low)?;
    let bias = g.parameter_as("bias", &[out], Layout::Same, low)?;
    Ok(g.full(&g.conv(&g.cast(x, low), &weight, Some(&bias), 1)?))
}

/// As [`conv`], without bias.
pub(super) fn conv_unbiased(g: &Scope, x: &Value, out: usize, side: usize) -> Result<Value> {
    let weight = g.parameter_as("weight", &[out, channels(g, x)?, side, side], Layout::Same, g.convolution_type())?;
    Ok(g.full(&g.conv(&g.cast(x, g.convolution_type()), &weight, None, 1)?))
}

/// Groups of neighbouring channels of `[batch, channels, height, width]`, each normalised over its channels and all
/// pixels, times the parameter `weight` `[channels]`, plus `bias`.
///
/// `(x - mean) * (weight / root) + bias` with one factor for each channel: one pass over the image less than a division
/// by the root, and no square that has to be told apart from a product.
pub(super) fn group_norm(g: &Scope, x: &Value, groups: usize, epsilon: f32) -> Result<Value> {
    let channels = channels(g, x)?;
    let weight = g.parameter("weight", &[channels], Layout::Groups(groups))?;
    let bias = g.parameter("bias", &[channels], Layout::Groups(groups))?;
    let sides: Vec<usize> = [2, 3].into_iter().filter_map(|axis| x.shape().size(axis)).collect();
    let grouped = g.reshape(x, &[groups, channels / groups, sides.iter().product()])?;
    let centred = g.sub(&grouped, &g.mean_over(&grouped, &[2, 3])?)?;
    let variance = g.mean_over(&g.mul(&centred, &centred)?, &[2, 3])?;
    let root = g.sqrt(&g.add(&variance, &g.scalar(epsilon))?);
    let normed = g.add(&g.mul(&centred, &g.div(&weight, &root)?)?, &bias)?;
    let sizes: Vec<usize> = [channels].into_iter().chain(sides).collect();
    g.reshape(&normed, &sizes)
}

/// Channels of an image.
fn channels(g: &Scope, x: &Value) -> Result<usize> {
    x.shape().size(1).filter(|_| x.shape().rank() == 4).ok_or_else(|| g.error(format!("{} is no image", x.shape())))
}
