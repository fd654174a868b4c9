//! `[start]`: a run that begins with the weights of another.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The model that a run starts from. The new run counts its own steps from 0 and draws its own data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartSettings {
    /// A run folder (its last checkpoint), a checkpoint folder or a weight file. Folders give the trained weights; a
    /// moving average is started from by its file.
    pub model: PathBuf,
    /// The optimizer's moments and the moving averages.
    #[serde(default)]
    pub optimizer: OptimizerStart,
    /// The learning-rate schedule.
    #[serde(default)]
    pub schedule: ScheduleStart,
}

/// What happens to the optimizer's moments and the moving averages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerStart {
    /// Moments begin at zero, averages at the weights.
    #[default]
    Reset,
    /// Both go on from the checkpoint; averages of decays that it does not have begin at the weights.
    Restore,
}

/// Where the learning-rate schedule begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleStart {
    /// At its step 0, warm-up included.
    #[default]
    Reset,
    /// At the step that the checkpoint had reached.
    Continue,
}
