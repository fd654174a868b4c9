//! SiLU(gate) * value.

use candle_core::{Result, Tensor};
use candle_nn::ops::sigmoid;

use super::reversible::reversible;

/// [`swiglu`](super::super::swiglu()) on any device.
pub(in super::super) fn swiglu(gate: &Tensor, value: &Tensor) -> Result<Tensor> {
    let (g, v) = (gate.detach().contiguous()?, value.detach());
    let y = (g.silu()? * &v)?;
    reversible([gate, value], y, move |_, dy| {
        // d SiLU / d g = s (1 + g (1 - s)) with s = sigmoid(g), and SiLU = g s.
        let s = sigmoid(&g)?;
        let silu = (&g * &s)?;
        let slope = (&s + (&silu * s.affine(-1.0, 1.0)?)?)?;
        let (dg, dv) = (((dy * &v)? * slope)?, (dy * silu)?);
        Ok([Some(dg), Some(dv)])
    })
}
