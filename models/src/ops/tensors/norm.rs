//! RMSNorm and LayerNorm with gain and modulation.

use candle_core::{D, Result, Tensor};
use candle_nn::ops::rms_norm;
use drifting_spec::Norm;

use super::super::EPSILON;
use super::super::norm::Modulation;
use super::product::{columns_at, sum_of_rows, sum_of_tokens};
use super::reversible::reversible;

/// [`norm`](super::super::norm()) on any device.
pub(in super::super) fn norm(
    kind: Norm,
    x: &Tensor,
    affine: &Tensor,
    modulation: &Tensor,
    columns: Modulation,
) -> Result<Tensor> {
    let (hidden, width) = (x.dim(2)?, modulation.dim(1)?);
    let (input, gains) = (x.detach().contiguous()?, affine.detach());
    let row = |offset| modulation.detach().narrow(1, offset, hidden)?.unsqueeze(1);
    let (factor, shift) = ((row(columns.scale)? + 1.0)?, row(columns.shift)?);
    let normed = match (kind, gains.dim(0)?) {
        (Norm::Rms, 1) => rms_norm(&input, &gains.get(0)?, EPSILON)?,
        _ => apply(&normalise(kind, &input)?.0, &gains)?,
    };
    let y = normed.broadcast_mul(&factor)?.broadcast_add(&shift)?;
    reversible([x, affine, modulation], y, move |_, dy| {
        let (n, share) = normalise(kind, &input)?;
        let dscale = columns_at(&sum_of_tokens(&(dy * apply(&n, &gains)?)?)?, columns.scale, width)?;
        let dmodulation = (columns_at(&sum_of_tokens(dy)?, columns.shift, width)? + dscale)?;
        let du = dy.broadcast_mul(&factor)?;
        let flat = |x: &Tensor| x.reshape(((), hidden));
        let mut daffine = sum_of_rows(&flat(&(&du * &n)?)?)?.unsqueeze(0)?;
        if gains.dim(0)? == 2 {
            daffine = Tensor::cat(&[daffine, sum_of_rows(&flat(&du)?)?.unsqueeze(0)?], 0)?;
        }
        let mut dn = du.broadcast_mul(&gains.get(0)?)?;
        let along = (&dn * &n)?.mean_keepdim(D::Minus1)?;
        if kind == Norm::Layer {
            dn = dn.broadcast_sub(&dn.mean_keepdim(D::Minus1)?)?;
        }
        let dx = (dn - n.broadcast_mul(&along)?)?.broadcast_mul(&share)?;
        Ok([Some(dx), Some(daffine), Some(dmodulation)])
    })
}

/// x about its mean, if it is taken away, over its deviation; and 1 / deviation.
fn normalise(kind: Norm, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let centred = match kind {
        Norm::Rms => x.clone(),
        Norm::Layer => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
    };
    let share = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(EPSILON))?.sqrt()?.recip()?;
    Ok((centred.broadcast_mul(&share)?, share))
}

fn apply(normalised: &Tensor, affine: &Tensor) -> Result<Tensor> {
    let scaled = normalised.broadcast_mul(&affine.get(0)?)?;
    if affine.dim(0)? == 2 { scaled.broadcast_add(&affine.get(1)?) } else { Ok(scaled) }
}
