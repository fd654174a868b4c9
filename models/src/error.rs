//! What can go wrong with a network or its weights.

use std::path::{Path, PathBuf};

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a network or of its weights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The architecture contradicts itself.
    #[error(transparent)]
    Config(#[from] drifting_spec::ConfigError),
    /// The weights lack a parameter.
    #[error("weights: tensor {name} is missing (expected shape {expected:?})")]
    Missing {
        /// Parameter name.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// The weights hold a parameter that the network does not have.
    #[error("weights: tensor {name} belongs to no parameter of this network; do weights and configuration match?")]
    Unknown {
        /// Tensor name.
        name: String,
    },
    /// A tree of parameters is not the network's.
    #[error("weights: {problem}")]
    Tree {
        /// What is wrong with it, by path.
        problem: String,
    },
    /// A parameter has another shape.
    #[error("weights: tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Parameter name.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// A parameter holds integers.
    #[error("weights: tensor {name} holds {found:?} numbers, expected floating point")]
    DType {
        /// Parameter name.
        name: String,
        /// The type that it has.
        found: candle_core::DType,
    },
    /// A parameter holds a number that is not finite.
    #[error("weights: tensor {name} holds NaN or infinite numbers")]
    NotFinite {
        /// Parameter name.
        name: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file's contents are not what they should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A published artefact cannot be fetched.
    #[error("{place}: {problem}")]
    Hub {
        /// Repository and hub.
        place: String,
        /// What is wrong and what can be done.
        problem: String,
    },
    /// An input does not fit the network.
    #[error("{problem}")]
    Input {
        /// What does not fit and what would.
        problem: String,
    },
}

impl Error {
    /// The error with the name of the weight file at fault.
    pub(crate) fn of_file(self, path: &Path) -> Self {
        match self {
            Self::Io { .. } | Self::File { .. } => self,
            other => Self::File { path: path.to_owned(), problem: other.to_string() },
        }
    }
}
