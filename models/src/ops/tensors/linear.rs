//! One product of all rows.

use candle_core::{Result, Tensor};

use super::super::gpu;
use super::super::operations::kernels;
use super::product::{factor, product, sum_of_rows};
use super::reversible::{Back, reversible};

/// [`linear`](super::super::linear()) on any device.
pub(in super::super) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let wanted = [x, weight, bias].map(Tensor::track_op);
    let (y, back) = there_and_back(x, weight, bias, wanted)?;
    reversible([x, weight, bias], y, move |_, dy| back(dy))
}

/// The result, and what makes the gradients of x, weight and bias of its gradient, as far as they are wanted.
pub(in super::super) fn there_and_back(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    wanted: [bool; 3],
) -> Result<(Tensor, impl Back<3> + use<>)> {
    let (out, inner) = weight.dims2()?;
    let of_x = x.dims().to_vec();
    let of_y = [&of_x[..of_x.len().saturating_sub(1)], &[out]].concat();
    let (rows, kernel) = (x.detach().contiguous()?.reshape(((), inner))?, weight.detach());
    let y = biased(product(&factor(&rows)?, &factor(&kernel)?.t()?)?, bias)?;
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

/// A bias in each row of what was made just now.
pub(super) fn biased(y: Tensor, bias: &Tensor) -> Result<Tensor> {
    if !kernels(y.device()) {
        return y.broadcast_add(&bias.detach());
    }
    gpu::add_bias(&y, bias)?;
    Ok(y)
}
