//! Measurements on generated images while a generator is trained.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::eval::NetworkName;

/// The table `evaluation` of a generator: every few steps, images of the first moving average are compared with the statistics of
/// real ones, which `drifting eval --save-statistics` makes; what is found goes to `evaluation.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasuringSettings {
    /// Steps between measurements; 0 for none but the last.
    #[serde(default = "every")]
    pub every: u64,
    /// Generated images of each class.
    #[serde(default = "images")]
    pub images: usize,
    /// The network in whose features images are compared.
    #[serde(default)]
    pub network: NetworkName,
    /// File of its weights; of the judge, the one that a run folder keeps.
    pub weights: PathBuf,
    /// Statistics of the real images: a file of `drifting eval`, or a published .npz.
    pub statistics: PathBuf,
}

fn every() -> u64 {
    5000
}

fn images() -> usize {
    100
}

impl MeasuringSettings {
    /// Checks the numbers.
    ///
    /// # Errors
    /// Names the key and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let problem = format!("{} is not between 1 and 10000 images of each class", self.images);
        match (1..=10_000).contains(&self.images) {
            true => Ok(()),
            false => Err(ConfigError::Invalid { key: "evaluation.images".to_owned(), problem }),
        }
    }
}
