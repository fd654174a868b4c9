//! A transformer block as one operation.

use candle_core::{Result, Tensor};

use super::super::block::{BlockSettings, BlockSizes};
use super::super::norm::Modulation;
use super::super::tensors::linear;
use super::super::tensors::reversible::{Back, reversible};
use super::{attention, gate, norm, swiglu, there};

/// [`block`](super::super::block()) by kernels; if `again`, only its inputs are kept, and the rest is computed once more on the way
/// back.
pub(in super::super) fn block(
    x: &Tensor,
    modulation: &Tensor,
    weights: &Tensor,
    settings: &BlockSettings,
    again: bool,
) -> Result<Tensor> {
    let (y, back) = there_and_back(x, modulation, weights, settings)?;
    if !again {
        return reversible([x, modulation, weights], y, move |_, dy| back(dy));
    }
    drop(back);
    let kept = [x, modulation, weights].map(Tensor::detach);
    let settings = settings.clone();
    reversible([x, modulation, weights], y, move |_, dy| {
        let [x, modulation, weights] = &kept;
        let (_, back) = there_and_back(x, modulation, weights, &settings)?;
        back(dy)
    })
}

/// The result, and what makes the gradients of x, modulation and weights of its gradient.
fn there_and_back(
    x: &Tensor,
    modulation: &Tensor,
    weights: &Tensor,
    settings: &BlockSettings,
) -> Result<(Tensor, impl Back<3> + use<>)> {
    let BlockSizes { hidden, inner, head_dim, norm_parts } = settings.sizes;
    let mut at = 0;
    let mut take = |shape: &[usize]| {
        let len = shape.iter().product();
        let part = weights.detach().narrow(0, at, len)?.reshape(shape);
        at += len;
        part
    };
    let all = [true; 3];
    let columns = |first: usize| Modulation { shift: first * hidden, scale: (first + 1) * hidden };
    let norm1 = take(&[norm_parts, hidden])?;
    let (normed, norm1) = norm::there_and_back(settings.norm, x, &norm1, modulation, columns(0))?;
    let (qkv, qkv_back) = linear::there_and_back(&normed, &take(&[3 * hidden, hidden])?, &take(&[3 * hidden])?, all)?;
    let (mixed, attention) = attention::there_and_back(&qkv, &take(&[2, head_dim])?, &settings.attention)?;
    let (mixed, out) = linear::there_and_back(&mixed, &take(&[hidden, hidden])?, &take(&[hidden])?, all)?;
    let (middle, gate1) = gate::there_and_back(x, &mixed, modulation, 2 * hidden)?;
    let norm2 = take(&[norm_parts, hidden])?;
    let (normed, norm2) = norm::there_and_back(settings.norm, &middle, &norm2, modulation, columns(3))?;
    let (gate, gate_back) = linear::there_and_back(&normed, &take(&[inner, hidden])?, &take(&[inner])?, all)?;
    let (value, value_back) = linear::there_and_back(&normed, &take(&[inner, hidden])?, &take(&[inner])?, all)?;
    let (activation, swiglu) = swiglu::there_and_back(&gate, &value)?;
    let (down, down_back) = linear::there_and_back(&activation, &take(&[hidden, inner])?, &take(&[hidden])?, all)?;
    let (y, gate2) = gate::there_and_back(&middle, &down, modulation, 5 * hidden)?;
    let back = move |dy: &Tensor| {
        let [dmiddle, ddown, dmodulation] = gate2(dy)?;
        let [dactivation, dw_down, db_down] = down_back(&there(ddown)?)?;
        let [dgate, dvalue] = swiglu(&there(dactivation)?)?;
        let [dnormed, dw_gate, db_gate] = gate_back(&there(dgate)?)?;
        let [more, dw_value, db_value] = value_back(&there(dvalue)?)?;
        let [more, dnorm2, of_norm2] = norm2(&(there(dnormed)? + there(more)?)?)?;
        let dmiddle = (there(dmiddle)? + there(more)?)?;
        let [dx, dmixed, of_gate1] = gate1(&dmiddle)?;
        let [dmixed, dw_out, db_out] = out(&there(dmixed)?)?;
        let [dqkv, dgains] = attention(&there(dmixed)?)?;
        let [dnormed, dw_qkv, db_qkv] = qkv_back(&there(dqkv)?)?;
        let [more, dnorm1, of_norm1] = norm1(&there(dnormed)?)?;
        let dx = (there(dx)? + there(more)?)?;
        let mut sum = there(dmodulation)?;
        for more in [of_norm2, of_gate1, of_norm1] {
            sum = (sum + there(more)?)?;
        }
        let dgains = match dgains {
            Some(dgains) => dgains,
            None => Tensor::zeros((2, head_dim), dy.dtype(), dy.device())?,
        };
        // In the order of the weights.
        let dense = [dw_qkv, db_qkv, Some(dgains), dw_out, db_out, dnorm2, dw_gate, db_gate, dw_value, db_value];
        let parts = [dnorm1].into_iter().chain(dense).chain([dw_down, db_down]);
        let parts = parts.map(|part| there(part)?.flatten_all()).collect::<Result<Vec<_>>>()?;
        Ok([Some(dx), Some(sum), Some(Tensor::cat(&parts, 0)?)])
    };
    Ok((y, back))
}
