//! What can go wrong with a run folder.

use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::trainer::{StepError, TrainError};

use super::Change;

/// An error of a run or its folder.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Training itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Weights.
    #[error(transparent)]
    Model(#[from] drifting_models::Error),
    /// The computation of a step.
    #[error(transparent)]
    Computation(Box<StepError>),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Optimizer.
    #[error(transparent)]
    Optimizer(#[from] crate::optim::OptimError),
    /// A measurement.
    #[error(transparent)]
    Evaluation(#[from] crate::eval::EvalError),
    /// Images.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file's contents are not what they should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The folder belongs to another run.
    #[error("{}", other_run(path, changes))]
    OtherRun {
        /// The run folder.
        path: PathBuf,
        /// Everything that differs.
        changes: Vec<Change>,
    },
    /// A step failed; nothing that was saved has changed.
    #[error("step {step}: {source}; it saw {images}")]
    Step {
        /// The step, counted from 1.
        step: u64,
        /// The real images of the step.
        images: String,
        /// The cause.
        source: Box<RunError>,
    },
    /// The processes of a run do not hold the same.
    #[error(
        "rank {rank} has other weights than rank 0 (at steps {step} and {first}): do all run the same program on the same files?"
    )]
    Apart {
        /// The process.
        rank: usize,
        /// Its step.
        step: u64,
        /// That of the first process.
        first: u64,
    },
    /// Another process trains in the folder.
    #[error("{}: another process is training in this folder", path.display())]
    Busy {
        /// The run folder.
        path: PathBuf,
    },
}

impl RunError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Settings that do not fit the data.
    pub(crate) fn mismatch(key: &str, problem: String) -> Self {
        Self::Config(ConfigError::Invalid { key: key.to_owned(), problem })
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }
}

fn other_run(path: &Path, changes: &[Change]) -> String {
    let list: Vec<_> = changes.iter().map(ToString::to_string).collect();
    let keys: Vec<_> = changes.iter().filter_map(|change| change.key.split_whitespace().next()).collect();
    format!(
        "{}: was started with other settings: {}; use another folder, the settings of {}/config.toml, or \
         --allow-changed {}",
        path.display(),
        list.join("; "),
        path.display(),
        keys.join(",")
    )
}
