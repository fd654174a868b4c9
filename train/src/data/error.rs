//! What can be wrong with images and labels.

use std::path::PathBuf;

/// Result with [`DataError`].
pub type Result<T> = std::result::Result<T, DataError>;

/// An error of a data source.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file's or folder's contents are not what they should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// One image is damaged; others of the source may be fine.
    #[error("{name}: {problem}")]
    Image {
        /// The file, or the file and the member or row.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting contradicts another or is out of range.
    #[error("{key}: {problem}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A queue holds too few images.
    #[error("the queue of {queue} holds {held} images, but a step asks for {wanted}{}: queue.warm_up fills it before the first step", if *strict { " without repetition (queue.strict)" } else { "" })]
    Underflow {
        /// The class, or all classes.
        queue: String,
        /// Images that it holds.
        held: usize,
        /// Images that were asked for.
        wanted: usize,
        /// Whether repetition is forbidden.
        strict: bool,
    },
    /// A class has no image.
    #[error("class {class} ({name}) has no image")]
    EmptyClass {
        /// Number of the class.
        class: usize,
        /// Name of the class.
        name: String,
    },
    /// Labels or pixels do not fit together.
    #[error("data set: {0}")]
    Inconsistent(String),
    /// A tensor of a checkpoint does not fit.
    #[error("{name}: {problem}")]
    State {
        /// Name of the tensor.
        name: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A network or a file of weights.
    #[error(transparent)]
    Model(#[from] drifting_models::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl DataError {
    pub(super) fn image(name: impl std::fmt::Display, problem: impl Into<String>) -> Self {
        Self::Image { name: name.to_string(), problem: problem.into() }
    }

    pub(super) fn file(path: &std::path::Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }
}
