//! The objective of one key in tensor operations: what [`phases`](super::phases) does, for devices other than the processor.
//!
//! All problems of a key are computed together: `[groups, T, ..]` before the sizes of one problem. Means, scales and losses stay
//! on the device, so that keys are queued one after the other; the host reads them when it wants to know.

mod affinity;
mod batch;
mod drifts;
mod kernels;
mod measured;
mod scale;
mod targets;
#[cfg(test)]
mod tests;

use super::DriftError;

pub use batch::TensorBatch;
pub use drifts::{TensorDrifts, TensorOutcome};
pub use measured::TensorMeasured;
pub use scale::TensorMeans;
pub use targets::TensorTargets;

type TensorResult<T> = candle_core::Result<T>;

fn failed(key: &str, error: &candle_core::Error) -> DriftError {
    DriftError::Tensor { key: key.to_owned(), problem: error.to_string() }
}
