//! x + gate * y.

use candle_core::{Result, Tensor};

use super::product::{columns_at, sum_of_tokens};
use super::reversible::reversible;

/// [`gated_add`](super::super::gated_add) on any device.
pub(in super::super) fn gated_add(x: &Tensor, y: &Tensor, modulation: &Tensor, offset: usize) -> Result<Tensor> {
    let (hidden, width) = (x.dim(2)?, modulation.dim(1)?);
    let (branch, gate) = (y.detach(), modulation.detach().narrow(1, offset, hidden)?.unsqueeze(1)?);
    let sum = (x.detach() + branch.broadcast_mul(&gate)?)?;
    reversible([x, y, modulation], sum, move |_, dy| {
        let dgate = columns_at(&sum_of_tokens(&(dy * &branch)?)?, offset, width)?;
        Ok([Some(dy.clone()), Some(dy.broadcast_mul(&gate)?), Some(dgate)])
    })
}
