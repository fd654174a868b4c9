//! What can go wrong with an export.

use crate::graph::GraphError;
use crate::settings::SettingsError;
use crate::targets::DeploymentError;
use crate::verify::Report;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error from elsewhere: of an engine.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network or its weights: a tensor operation, a parameter, a file.
    #[error(transparent)]
    Models(#[from] drifting_models::Error),
    /// The manifest contradicts itself.
    #[error(transparent)]
    Manifest(#[from] drifting_spec::ManifestError),
    /// Something was asked for that cannot be exported.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Weights and configuration do not make a graph, or a file holds another one.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The manifest describes another network than the one at hand.
    #[error("the manifest describes another network than the one at hand: {manifest} instead of {network}")]
    OtherNetwork {
        /// Settings in the manifest.
        manifest: String,
        /// Settings of the network.
        network: String,
    },
    /// The engines that should verify the model cannot be had.
    #[error("no engine to verify the export with: {0}")]
    Engine(BoxError),
    /// The model cannot be deployed that way.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The sample images cannot be laid out or encoded.
    #[error("samples.png: {0}")]
    Samples(String),
    /// The exported model does not do what the generator does.
    #[error("the export failed its verification: {}", .0.failures.join("; "))]
    Verification(Box<Report>),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Models(error.into())
    }
}

impl From<drifting_spec::ConfigError> for Error {
    fn from(error: drifting_spec::ConfigError) -> Self {
        Self::Manifest(error.into())
    }
}
