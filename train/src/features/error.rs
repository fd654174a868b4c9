//! What can be wrong with feature keys and encoders.

use std::path::PathBuf;

/// A feature key that does not exist or does not fit, or an encoder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// No key has this name.
    #[error(
        "features.keys: {name:?} is no feature key; there are {known}, and of the image patch_K, mean_K and std_K with K a number, as patch_7"
    )]
    Unknown {
        /// The name or pattern.
        name: String,
        /// Keys that exist.
        known: String,
    },
    /// The key's cells do not tile the image.
    #[error("features.keys: {key} needs an image whose sides are multiples of {cell}, not {height}x{width}")]
    Indivisible {
        /// Name of the key.
        key: String,
        /// Side of its cells.
        cell: usize,
        /// Rows of the image.
        height: usize,
        /// Columns of the image.
        width: usize,
    },
    /// A list of keys that cannot be used.
    #[error("features.keys: {0}")]
    Keys(String),
    /// An encoder's file is not what it should be.
    #[error("features.{key}: {}: {problem}", path.display())]
    Encoder {
        /// The setting that names the file.
        key: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// An encoder for other images.
    #[error("features.{key}: {problem}")]
    Mismatch {
        /// The setting.
        key: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// Network or weights.
    #[error(transparent)]
    Model(#[from] drifting_models::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
