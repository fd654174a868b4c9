//! Sums over rows of features in f64.

use candle_core::{DType, Tensor};

use super::Result;

/// A figure with the standard deviation of the parts that it is the mean of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Mean.
    pub value: f64,
    /// Standard deviation, divided by the number of parts.
    pub deviation: f64,
}

pub(super) fn mean_and_deviation(parts: &[f64]) -> Spread {
    let count = parts.len() as f64;
    let value = parts.iter().sum::<f64>() / count;
    let squares: f64 = parts.iter().map(|part| (part - value).powi(2)).sum();
    Spread { value, deviation: (squares / count).sqrt() }
}

/// `[n, m]`: each row of `[n, d]` times each row of `[m, d]`.
pub(super) fn products(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    Ok(left.matmul(&right.t()?)?)
}

/// The squared length of each row of `[n, d]` f64.
pub(super) fn squared_lengths(rows: &Tensor) -> Result<Vec<f64>> {
    Ok(rows.sqr()?.sum(1)?.to_dtype(DType::F64)?.to_vec1()?)
}
