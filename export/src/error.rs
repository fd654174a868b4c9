//! What can go wrong with an export.

use crate::graph::GraphError;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network or its weights: a tensor operation, a parameter, a file.
    #[error(transparent)]
    Models(#[from] drifting_models::Error),
    /// The manifest contradicts itself.
    #[error(transparent)]
    Manifest(#[from] drifting_spec::ManifestError),
    /// Weights and configuration do not make a graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The manifest describes another generator than the one that is exported.
    #[error(
        "the manifest describes another generator than the one that is exported: {manifest} instead of {generator}"
    )]
    OtherGenerator {
        /// Settings in the manifest, as JSON.
        manifest: String,
        /// Settings of the generator, as JSON.
        generator: String,
    },
    /// One file cannot hold the model.
    #[error("the model takes {bytes} bytes, an ONNX file holds less than 2147483648")]
    TooLarge {
        /// Size of the encoded model.
        bytes: usize,
    },
    /// The engines that should verify the model cannot be had.
    #[error("no engine to verify the export with: {0}")]
    Engine(Box<dyn std::error::Error + Send + Sync>),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Models(error.into())
    }
}
