//! Matrix products of tensors in the precision of products, on any device.

use candle_core::{DType, Result, Tensor};

use super::super::matmul::{Precision, precision};

/// The factor `x` as products take it.
pub(in super::super) fn factor(x: &Tensor) -> Result<Tensor> {
    match (precision(), x.device().is_cpu()) {
        (Precision::F32, _) => Ok(x.clone()),
        (Precision::Bf16, false) => x.to_dtype(DType::BF16),
        // candle has no products of bfloat16 on the processor.
        (Precision::Bf16, true) => x.to_dtype(DType::BF16)?.to_dtype(DType::F32),
    }
}

/// The product of two [factors](factor), in single precision.
pub(in super::super) fn product(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::BF16 => drifting_kernels::product(x, y),
        _ => x.matmul(y),
    }
}

/// The sums of the columns of `[rows, columns]`: as a product, which devices are fast at.
pub(in super::super) fn sum_of_rows(x: &Tensor) -> Result<Tensor> {
    Tensor::ones((1, x.dim(0)?), x.dtype(), x.device())?.matmul(x)?.squeeze(0)
}

/// The sums over the tokens of `[batch, tokens, columns]`, `[batch, columns]`.
pub(in super::super) fn sum_of_tokens(x: &Tensor) -> Result<Tensor> {
    let (batch, tokens, _) = x.dims3()?;
    Tensor::ones((batch, 1, tokens), x.dtype(), x.device())?.matmul(x)?.squeeze(1)
}

/// The columns of x beginning at `offset` of `width` columns, the others being 0.
pub(in super::super) fn columns_at(x: &Tensor, offset: usize, width: usize) -> Result<Tensor> {
    x.pad_with_zeros(1, offset, width - offset - x.dim(1)?)
}
