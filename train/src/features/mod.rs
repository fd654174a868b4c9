//! Feature keys: the spaces in which samples drift, described by name (paper A.5).
//!
//! A key turns an image into T vectors ("locations") of D numbers. The keys of the raw image are computed here in closed
//! form, forward and back.

mod pixel;

pub use pixel::PixelKey;

/// A feature key that does not exist or does not fit the image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// No key has this name.
    #[error(
        "features.keys: {0:?} is no feature key; there are global, patch_K, mean_K and std_K with K a number, as patch_7"
    )]
    Unknown(String),
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
}
