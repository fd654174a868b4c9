//! Linear, SiLU and the norms.

use drifting_spec::Norm;

use crate::graph::{Layout, Result, Scope, Value};

/// Added to the mean square, or to the variance, before the square root.
pub(super) const NORM_EPSILON: f32 = 1e-6;

/// `x W^T + b` for the parameters `weight` `[outputs, inputs]` and `bias` `[outputs]` of `g`.
pub(super) fn linear(g: &Scope, x: &Value, inputs: usize, outputs: usize) -> Result<Value> {
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
    let mean_square = g.mean(&g.square(x))?;
    let root = g.sqrt(&g.add(&mean_square, &g.scalar(NORM_EPSILON))?);
    let inverse = g.div(&g.scalar(1.0), &root)?;
    g.mul(&g.mul(x, &inverse)?, gain)
}

/// `(x - mean) / sqrt(variance + epsilon) * gain + bias`.
fn layer_norm(g: &Scope, x: &Value, gain: &Value, bias: &Value) -> Result<Value> {
    let centred = g.sub(x, &g.mean(x)?)?;
    let variance = g.mean(&g.square(&centred))?;
    let root = g.sqrt(&g.add(&variance, &g.scalar(NORM_EPSILON))?);
    g.add(&g.mul(&g.div(&centred, &root)?, gain)?, bias)
}
