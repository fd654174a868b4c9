//! Group normalisation with ReLU.

use candle_core::{Result, Tensor};

use super::super::group_norm::GroupNorm;
use super::product::sum_of_rows;
use super::reversible::reversible;

/// [`group_norm`](super::super::group_norm()) on any device.
pub(in super::super) fn group_norm(x: &Tensor, scale: &Tensor, bias: &Tensor, settings: GroupNorm) -> Result<Tensor> {
    let (input, gain, offset) = (x.detach().contiguous()?, scale.detach(), bias.detach());
    let normalised = Grouped::of(&input, settings)?;
    let mut y = normalised.values.broadcast_mul(&gain)?.broadcast_add(&offset)?;
    if settings.relu {
        y = y.relu()?;
    }
    let wanted = [x, scale, bias].map(Tensor::track_op);
    reversible([x, scale, bias], y, move |y, dy| {
        let dy = if settings.relu { (dy * y.gt(0.0)?.to_dtype(dy.dtype())?)? } else { dy.clone() };
        let normalised = Grouped::of(&input, settings)?;
        let rows = |x: &Tensor| sum_of_rows(&x.reshape(((), gain.dim(0)?))?);
        let dscale = wanted[1].then(|| rows(&(&dy * &normalised.values)?)).transpose()?;
        let dbias = wanted[2].then(|| rows(&dy)).transpose()?;
        let dx = wanted[0].then(|| normalised.back(&dy.broadcast_mul(&gain)?)).transpose()?;
        Ok([dx, dscale, dbias])
    })
}

/// Normalised numbers, as the input lies, and 1 / deviation of each group of each image `[n, 1, groups, 1]`.
struct Grouped {
    values: Tensor,
    share: Tensor,
    settings: GroupNorm,
}

impl Grouped {
    fn of(x: &Tensor, settings: GroupNorm) -> Result<Self> {
        let cut = cut(x, settings)?;
        let centred = cut.broadcast_sub(&mean(&cut)?)?;
        let share = (mean(&centred.sqr()?)? + f64::from(settings.eps))?.sqrt()?.recip()?;
        let values = centred.broadcast_mul(&share)?.reshape(x.shape())?;
        Ok(Self { values, share, settings })
    }

    /// The gradient of what was normalised, from that of the normalised numbers.
    fn back(&self, dn: &Tensor) -> Result<Tensor> {
        let (shape, dn, n) = (dn.shape(), cut(dn, self.settings)?, cut(&self.values, self.settings)?);
        let (push, along) = (mean(&dn)?, mean(&(&dn * &n)?)?);
        let dx = (dn.broadcast_sub(&push)? - n.broadcast_mul(&along)?)?;
        dx.broadcast_mul(&self.share)?.reshape(shape)
    }
}

/// `[n, places, groups, channels of a group]`.
fn cut(x: &Tensor, settings: GroupNorm) -> Result<Tensor> {
    let channels = x.dim(candle_core::D::Minus1)?;
    x.reshape((x.dim(0)?, (), settings.groups, channels / settings.groups))
}

/// Of each group of each image. Channels first: so there are fewer numbers that do not lie side by side.
fn mean(x: &Tensor) -> Result<Tensor> {
    x.mean_keepdim(3)?.mean_keepdim(1)
}
