//! What can go wrong with a run folder.

use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::trainer::TrainError;

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
    #[error(
        "{}: was started with {key} = {before}, now it is {now}; use another folder, or the settings of {}/config.toml",
        path.display(), path.display()
    )]
    OtherRun {
        /// The run folder.
        path: PathBuf,
        /// The setting that differs.
        key: String,
        /// Its value in the folder.
        before: String,
        /// Its value now.
        now: String,
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

    pub(super) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }
}
