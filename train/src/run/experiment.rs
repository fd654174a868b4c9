//! What the loop of a run needs to know of the thing that is trained.

use std::collections::BTreeMap;
use std::time::Duration;

use candle_core::Tensor;
use drifting_models::nn::Params;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::RunError;
use crate::config::RunSettings;
use crate::optim::Ema;

/// Something that is trained step by step, and goes on from a checkpoint bit for bit.
pub trait Experiment {
    /// The settings.
    fn settings(&self) -> &dyn RunSettings;

    /// What is written down about data and weights.
    ///
    /// # Errors
    /// Files that cannot be read.
    fn facts(&self) -> Result<Facts, RunError>;

    /// Steps taken.
    fn step_count(&self) -> u64;

    /// Takes one step.
    ///
    /// # Errors
    /// Numbers that are not finite; the parameters have not changed then.
    fn step(&mut self) -> Result<Report, RunError>;

    /// The dataset indices of the real images that the last step saw, for reports of failures.
    fn batch_ids(&self) -> &[u64];

    /// The parameters being trained.
    fn params(&self) -> &Params;

    /// Their moving averages in the order of the settings.
    fn averages(&self) -> &[Ema];

    /// Everything else that a resumed run needs, by name: optimizer, counters, queues, running scales.
    ///
    /// # Errors
    /// Only those of tensor operations.
    fn state(&self) -> Result<BTreeMap<String, Tensor>, RunError>;

    /// Continues from parameters, [`state`](Self::state) and the states of the averages.
    ///
    /// # Errors
    /// Tensors that are missing, left over or of another shape, by name.
    fn restore(&mut self, weights: BTreeMap<String, Tensor>, state: &BTreeMap<String, Tensor>) -> Result<(), RunError>;

    /// Header entries of a weight file: what the weights are and where they come from; `decay` is that of an average.
    ///
    /// # Errors
    /// Only what JSON cannot hold.
    fn describe(&self, decay: Option<f64>) -> Result<BTreeMap<String, String>, RunError>;

    /// A PNG that shows what was learned so far; `None` for what is no picture.
    ///
    /// # Errors
    /// Numbers that are not finite.
    fn picture(&self) -> Result<Option<Vec<u8>>, RunError>;

    /// Measures on held-out images; `None` when it is not due at this step or there are none.
    ///
    /// # Errors
    /// Numbers that are not finite.
    fn evaluate(&self, last: bool) -> Result<Option<Map<String, Value>>, RunError> {
        let _ = last;
        Ok(None)
    }

    /// The name under which the average of decay `decay` is put into the run folder itself, for other runs to use.
    fn export_name(&self, decay: f64) -> Option<String> {
        let _ = decay;
        None
    }
}

/// What one step found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Steps taken, this one included.
    pub step: u64,
    /// Time of the whole step.
    pub wall: Duration,
    /// Time spent on waiting for real images.
    pub data_wait: Duration,
    /// The figures of the step, as they go into `metrics.jsonl`.
    pub metrics: Map<String, Value>,
    /// The figures that a person watches, in a few words.
    pub status: String,
}

/// Data and weights of a run, for `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Trained parameters.
    pub parameters: usize,
    /// Real images.
    pub data_images: usize,
    /// Names of their classes.
    pub data_classes: Vec<String>,
    /// SHA-256 of images, labels and classes.
    pub data_sha256: String,
    /// SHA-256 of each weight file that is used (encoders, autoencoders), by path.
    #[serde(default)]
    pub weights: BTreeMap<String, String>,
}
