//! What can stop training.

use crate::config::ConfigError;
use crate::data::DataError;
use crate::drift::DriftError;
use crate::features::FeatureError;
use crate::optim::OptimError;

/// Dataset numbers that a message shows; the error holds all of them.
const SHOWN_IDS: usize = 64;

/// An error that stops training; what was saved before stays.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Real images.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Feature keys or encoder.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// Network or weights.
    #[error(transparent)]
    Model(#[from] drifting_models::Error),
    /// Optimizer.
    #[error(transparent)]
    Optimizer(#[from] OptimError),
    /// A step that cannot be computed; the weights are those of the step before.
    #[error("step {step}: {source}; images of the step: {}", shown(ids))]
    Step {
        /// The step.
        step: u64,
        /// Numbers of the step's real images in the data set.
        ids: Vec<u64>,
        /// The cause.
        source: Box<StepError>,
    },
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The data or a checkpoint do not fit the settings.
    #[error("{key}: {problem}")]
    Mismatch {
        /// The key of the settings, or the name of a tensor of the checkpoint.
        key: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
}

impl TrainError {
    pub(super) fn mismatch(key: &str, problem: impl Into<String>) -> Self {
        Self::Mismatch { key: key.to_owned(), problem: problem.into() }
    }
}

/// Why a step cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The drift of a key; features that are not finite, by key.
    #[error(transparent)]
    Drift(#[from] DriftError),
    /// Feature keys or encoder.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// Generator.
    #[error(transparent)]
    Model(#[from] drifting_models::Error),
    /// Gradients that are not finite, by parameter.
    #[error(transparent)]
    Optimizer(#[from] OptimError),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Class groups that are not shared out as they should be.
    #[error("batch.classes: {groups} class groups for {ranks} processes, of which this one was given {given}")]
    Share {
        /// Groups of all processes.
        groups: usize,
        /// Processes.
        ranks: usize,
        /// Groups of this one.
        given: usize,
    },
    /// A loss that is not finite.
    #[error("feature key {key}: the loss is {loss}")]
    Loss {
        /// Name of the feature key.
        key: String,
        /// What it is.
        loss: f64,
    },
}

fn shown(ids: &[u64]) -> String {
    let mut text: Vec<_> = ids.iter().take(SHOWN_IDS).map(u64::to_string).collect();
    if ids.len() > SHOWN_IDS {
        text.push(format!("and {} more", ids.len() - SHOWN_IDS));
    }
    text.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_names_key_and_images() {
        let source = Box::new(StepError::Loss { key: "conv1".into(), loss: f64::NAN });
        let error = TrainError::Step { step: 7, ids: (0..66).collect(), source };
        let text = error.to_string();
        assert!(text.starts_with("step 7: feature key conv1: the loss is NaN; images of the step: 0 1 2"), "{text}");
        assert!(text.ends_with("62 63 and 2 more"), "{text}");
    }
}
