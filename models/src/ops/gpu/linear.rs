//! One product of all rows.

use candle_core::{Result, Tensor};

use super::super::tensors::product::{factor, product, sum_of_rows};
use super::super::tensors::reversible::reversible;
use super::{Back, add_bias};

/// [`linear`](super::super::linear()) with its bias by a kernel.
pub(in super::super) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let wanted = [x, weight, bias].map(Tensor::track_op);
    let (y, back) = there_and_back(x, weight, bias, wanted)?;
    reversible([x, weight, bias], y, move |_, dy| back(dy))
}

/// The result, and what makes the gradients of x, weight and bias of its gradient, as far as they are wanted.
pub(super) fn there_and_back(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    wanted: [bool; 3],
) -> Result<(Tensor, impl Back<3> + use<>)> {
    let (out, inner) = weight.dims2()?;
    let of_x = x.dims().to_vec();
    let of_y = [&of_x[..of_x.len() - 1], &[out]].concat();
    let (rows, kernel) = (x.detach().contiguous()?.reshape(((), inner))?, weight.detach());
    let y = product(&factor(&rows)?, &factor(&kernel)?.t()?)?;
    add_bias(&y, bias)?;
    let back = move |dy: &Tensor| {
        let exact = dy.reshape(((), out))?;
        let dy = factor(&exact)?;
        let dx = wanted[0].then(|| product(&dy, &factor(&kernel)?)?.reshape(of_x.as_slice())).transpose()?;
        let dw = wanted[1].then(|| product(&dy.t()?, &factor(&rows)?)).transpose()?;
        let db = wanted[2].then(|| sum_of_rows(&exact)).transpose()?;
        Ok([dx, dw, db])
    };
    Ok((y.reshape(of_y)?, back))
}
