//! GroupNorm and bilinear resize from plain operations.

use candle_core::{D, Result, Tensor};

#[derive(Clone, Copy, Debug)]
pub(super) struct GroupNorm {
    pub(super) groups: usize,
    pub(super) eps: f32,
    pub(super) relu: bool,
}

pub(super) fn group_norm(x: &Tensor, scale: &Tensor, bias: &Tensor, norm: GroupNorm) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let grouped = x.reshape((n, h * w, norm.groups, c / norm.groups))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?.mean_keepdim(1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?.mean_keepdim(1)?;
    let y = centred.broadcast_div(&(variance + f64::from(norm.eps))?.sqrt()?)?.reshape((n, h, w, c))?;
    let y = y.broadcast_mul(scale)?.broadcast_add(bias)?;
    if norm.relu { y.relu() } else { Ok(y) }
}

/// `[to, from]` weights of linear interpolation with half-pixel centres.
fn interpolation(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let mut weights = vec![0f32; to * from];
    for i in 0..to {
        let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, from as f64 - 1.0);
        let low = at.floor() as usize;
        let share = (at - low as f64) as f32;
        weights[i * from + low] += 1.0 - share;
        weights[i * from + (low + 1).min(from - 1)] += share;
    }
    Tensor::from_vec(weights, (to, from), like.device())
}

pub(super) fn resize_bilinear(x: &Tensor, (h2, w2): (usize, usize)) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let rows = interpolation(h, h2, x)?.broadcast_matmul(&x.reshape((n, h, w * c))?)?;
    let rows = rows.reshape((n * h2, w, c))?;
    interpolation(w, w2, x)?.broadcast_matmul(&rows)?.reshape((n, h2, w2, c))
}
