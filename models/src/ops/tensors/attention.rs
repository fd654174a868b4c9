//! Attention whose scores are computed once more on the way back.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::rope;
use drifting_spec::QkNorm;

use super::super::EPSILON;
use super::super::attention::{Attention, L2_FLOOR};
use super::product::{factor, product, sum_of_rows};
use super::reversible::reversible;

/// [`attention`](super::super::attention()) on any device.
pub(in super::super) fn attention(qkv: &Tensor, gains: &Tensor, settings: &Attention) -> Result<Tensor> {
    let pass = Pass { qkv: qkv.detach().contiguous()?, gains: gains.detach(), settings: settings.clone() };
    let heads = pass.heads()?;
    let y = pass.merge(&product(&factor(&heads.weights)?, &factor(&heads.values)?)?)?;
    reversible([qkv, gains], y, move |y, dy| pass.back(y, dy))
}

struct Pass {
    qkv: Tensor,
    gains: Tensor,
    settings: Attention,
}

/// Of every head, `[batch, heads, tokens, ..]`.
struct Heads {
    /// Queries and keys as they come, normalised, and turned.
    raw: [Tensor; 2],
    turned: [Tensor; 2],
    values: Tensor,
    /// Softmax of the scores.
    weights: Tensor,
}

impl Pass {
    fn head_dim(&self) -> Result<usize> {
        Ok(self.qkv.dim(2)? / 3 / self.settings.heads)
    }

    /// What queries are multiplied by.
    fn share(&self) -> Result<f64> {
        Ok((self.head_dim()? as f64).powf(-0.5))
    }

    fn heads(&self) -> Result<Heads> {
        let (batch, tokens, _) = self.qkv.dims3()?;
        let packed = self.qkv.reshape((batch, tokens, 3, self.settings.heads, self.head_dim()?))?;
        let part = |i: usize| packed.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let raw = [part(0)?, part(1)?];
        let turn = |i: usize| self.turn(&self.normalise(&raw[i], i)?, false);
        let turned = [(turn(0)? * self.share()?)?, turn(1)?];
        let scores = product(&factor(&turned[0])?, &factor(&turned[1])?.t()?)?;
        Ok(Heads { weights: softmax_last_dim(&scores)?, values: part(2)?, raw, turned })
    }

    /// Queries (0) or keys (1).
    fn normalise(&self, x: &Tensor, which: usize) -> Result<Tensor> {
        match self.settings.qk_norm {
            QkNorm::Rms => rms_norm(x, &self.gains.get(which)?, EPSILON),
            QkNorm::L2 => x.broadcast_div(&squares(x)?.maximum(L2_FLOOR)?.sqrt()?),
            QkNorm::Off => Ok(x.clone()),
        }
    }

    /// Turned by its position, or back.
    fn turn(&self, x: &Tensor, back: bool) -> Result<Tensor> {
        let Some(rotation) = &self.settings.rotation else { return Ok(x.clone()) };
        let [cos, sin] = rotation.tables(x.dim(2)?, x.device())?;
        rope(x, &cos, &if back { sin.neg()? } else { sin })
    }

    /// `[batch, heads, tokens, head_dim]` to `[batch, tokens, hidden]`.
    fn merge(&self, x: &Tensor) -> Result<Tensor> {
        x.transpose(1, 2)?.flatten_from(2)
    }

    fn back(&self, y: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let (batch, tokens, hidden) = y.dims3()?;
        let Heads { raw, turned, values, weights } = self.heads()?;
        let split = |x: &Tensor| {
            x.reshape((batch, tokens, self.settings.heads, hidden / self.settings.heads))?.transpose(1, 2)?.contiguous()
        };
        let (y, dy) = (split(y)?, split(dy)?);
        let half = factor(&dy)?;
        let dvalues = product(&factor(&weights)?.t()?, &half)?;
        let dweights = product(&half, &factor(&values)?.t()?)?;
        // The softmax takes from each weight's gradient their mean by weight, which is dy . y.
        let means = (dy * y)?.sum_keepdim(D::Minus1)?;
        let dscores = factor(&(dweights.broadcast_sub(&means)? * weights)?)?;
        let dq = (product(&dscores, &factor(&turned[1])?)? * self.share()?)?;
        let dk = product(&dscores.t()?, &factor(&turned[0])?)?;
        let mut dgains = Vec::new();
        let mut back = |which: usize, dx: &Tensor| {
            let (dx, dgain) = self.normalise_back(&raw[which], &self.turn(dx, true)?, which)?;
            dgains.extend(dgain);
            Ok::<_, candle_core::Error>(dx)
        };
        let parts = [back(0, &dq)?, back(1, &dk.contiguous()?)?, dvalues];
        let parts = parts.iter().map(|part| part.transpose(1, 2)).collect::<Result<Vec<_>>>()?;
        let dqkv = Tensor::stack(&parts, 2)?.reshape(self.qkv.shape())?;
        let dgains = if dgains.is_empty() { None } else { Some(Tensor::stack(&dgains, 0)?) };
        Ok([Some(dqkv), dgains])
    }

    /// Gradients of what was normalised, and of the gain if there is one.
    fn normalise_back(&self, x: &Tensor, dy: &Tensor, which: usize) -> Result<(Tensor, Option<Tensor>)> {
        match self.settings.qk_norm {
            QkNorm::Off => Ok((dy.clone(), None)),
            QkNorm::L2 => {
                let (norms, floor) = (squares(x)?, L2_FLOOR);
                let share = norms.maximum(floor)?.sqrt()?.recip()?;
                // Below the floor the length does not change with x.
                let n = x.broadcast_mul(&(&share * norms.gt(floor)?.to_dtype(x.dtype())?)?)?;
                let along = (dy * &n)?.sum_keepdim(D::Minus1)?;
                Ok(((dy - n.broadcast_mul(&along)?)?.broadcast_mul(&share)?, None))
            }
            QkNorm::Rms => {
                let share = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(EPSILON))?.sqrt()?.recip()?;
                let n = x.broadcast_mul(&share)?;
                let dgain = sum_of_rows(&(dy * &n)?.reshape(((), x.dim(D::Minus1)?))?)?;
                let dn = dy.broadcast_mul(&self.gains.get(which)?)?;
                let along = (&dn * &n)?.mean_keepdim(D::Minus1)?;
                Ok(((dn - n.broadcast_mul(&along)?)?.broadcast_mul(&share)?, Some(dgain)))
            }
        }
    }
}

/// Squared lengths.
fn squares(x: &Tensor) -> Result<Tensor> {
    x.sqr()?.sum_keepdim(D::Minus1)
}
