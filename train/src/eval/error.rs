//! What can go wrong in judging.

use std::path::PathBuf;

use crate::data::DataError;
use crate::optim::OptimError;

/// Result with [`EvalError`].
pub type Result<T> = std::result::Result<T, EvalError>;

/// An error of the judge or of a measurement.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The judge's weights cannot be made, read or written.
    #[error(transparent)]
    Model(#[from] drifting_models::Error),
    /// The judge's training failed.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// The real images cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file holds no judge.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The statistics were made under another contract.
    #[error("the evaluation and the statistics differ in {0}")]
    Contract(String),
    /// Images, labels or features cannot be measured.
    #[error("{0}")]
    Samples(String),
}
