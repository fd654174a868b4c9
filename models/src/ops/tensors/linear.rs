//! One product of all rows.

use candle_core::{Result, Tensor};

use super::product::{factor, product, sum_of_rows};
use super::reversible::reversible;

/// [`linear`](super::super::linear()) on any device.
pub(in super::super) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (out, inner) = weight.dims2()?;
    let of_x = x.dims().to_vec();
    let mut of_y = of_x.clone();
    if let Some(last) = of_y.last_mut() {
        *last = out;
    }
    let (rows, kernel) = (x.detach().contiguous()?.reshape(((), inner))?, weight.detach());
    let y = product(&factor(&rows)?, &factor(&kernel)?.t()?)?.broadcast_add(&bias.detach())?;
    let wanted = [x, weight, bias].map(Tensor::track_op);
    reversible([x, weight, bias], y.reshape(of_y)?, move |_, dy| {
        let exact = dy.reshape(((), out))?;
        let dy = factor(&exact)?;
        let dx = wanted[0].then(|| product(&dy, &factor(&kernel)?)?.reshape(of_x.as_slice())).transpose()?;
        let dw = wanted[1].then(|| product(&dy.t()?, &factor(&rows)?)).transpose()?;
        let db = wanted[2].then(|| sum_of_rows(&exact)).transpose()?;
        Ok([dx, dw, db])
    })
}
