//! The block out of single operations.

use candle_core::{Result, Tensor};

use super::super::{Modulation, attention, gated_add, linear, norm, swiglu};
use super::{BlockSettings, BlockSizes};

/// [`block`](super::block) out of single operations, which compute on any device.
pub(super) fn composed(x: &Tensor, modulation: &Tensor, weights: &Tensor, settings: &BlockSettings) -> Result<Tensor> {
    let BlockSizes { hidden, inner, head_dim, norm_parts } = settings.sizes;
    let mut at = 0;
    let mut take = |shape: &[usize]| {
        let len = shape.iter().product();
        let part = weights.narrow(0, at, len)?.reshape(shape);
        at += len;
        part
    };
    let norm1 = take(&[norm_parts, hidden])?;
    let (qkv, qkv_bias) = (take(&[3 * hidden, hidden])?, take(&[3 * hidden])?);
    let gains = take(&[2, head_dim])?;
    let (out, out_bias) = (take(&[hidden, hidden])?, take(&[hidden])?);
    let norm2 = take(&[norm_parts, hidden])?;
    let (gate, gate_bias) = (take(&[inner, hidden])?, take(&[inner])?);
    let (value, value_bias) = (take(&[inner, hidden])?, take(&[inner])?);
    let (down, down_bias) = (take(&[hidden, inner])?, take(&[hidden])?);
    let columns = |first: usize| Modulation { shift: first * hidden, scale: (first + 1) * hidden };
    let normed = norm(settings.norm, x, &norm1, modulation, columns(0))?;
    let mixed = attention(&linear(&normed, &qkv, &qkv_bias)?, &gains, &settings.attention)?;
    let x = gated_add(x, &linear(&mixed, &out, &out_bias)?, modulation, 2 * hidden)?;
    let normed = norm(settings.norm, &x, &norm2, modulation, columns(3))?;
    let activation = swiglu(&linear(&normed, &gate, &gate_bias)?, &linear(&normed, &value, &value_bias)?)?;
    gated_add(&x, &linear(&activation, &down, &down_bias)?, modulation, 5 * hidden)
}
