//! The settings of experiments: one TOML file each, every key documented here.

mod compute;
pub mod cost;
mod experiment;
mod features;
mod load;
mod loader;
mod mae;
mod measuring;
mod plan;
mod queue;
mod schema;
mod settings;
mod start;

use std::path::PathBuf;

use drifting_spec::{AlphaRange, GeneratorConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use compute::{ComputeSettings, DeviceName, Operations, Products};
pub use experiment::ExperimentConfig;
pub use features::{EncoderSettings, FeatureSettings, InputStatistic};
pub(crate) use load::to_toml;
pub use load::{ConfigError, Override};
pub use loader::LoaderSettings;
pub use mae::{EvaluationSettings, FinetuneSettings, ImageBatch, MaeTrainConfig, MaskSettings};
pub use measuring::MeasuringSettings;
pub use plan::{Memory, Plan};
pub use queue::{ClassSource, QueueCheckpoint, QueueSettings, WarmUp};
pub use schema::schema;
pub use settings::RunSettings;
pub use start::{OptimizerStart, ScheduleStart, StartSettings};

use crate::data::{Augment, DataSource, Reading};
use crate::drift::{AlphaLaw, DriftSettings};
use crate::optim::{AdamWSettings, Schedule};

/// A training run, resolved and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Name of the model.
    pub name: String,
    /// Seed of everything random.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Real images.
    pub data: DataSource,
    /// What is done to each real image.
    #[serde(default)]
    pub augment: Augment,
    /// Threads that read ahead.
    #[serde(default)]
    pub loader: LoaderSettings,
    /// How the networks compute.
    #[serde(default)]
    pub compute: ComputeSettings,
    /// Queues that real images are drawn from; without them they are drawn straight from the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueSettings>,
    /// Network.
    pub generator: GeneratorConfig,
    /// Images of one step.
    pub batch: BatchSettings,
    /// Law of the guidance strength.
    #[serde(default)]
    pub alpha: AlphaLaw,
    /// Spaces in which samples drift.
    pub features: FeatureSettings,
    /// The objective.
    #[serde(default)]
    pub drift: DriftSettings,
    /// Optimizer.
    #[serde(default)]
    pub optimizer: OptimizerSettings,
    /// Learning rate over the steps.
    pub schedule: Schedule,
    /// Moving averages.
    #[serde(default)]
    pub ema: EmaSettings,
    /// Pictures made of the model.
    #[serde(default)]
    pub sampling: SamplingSettings,
    /// Measurements on generated images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<MeasuringSettings>,
    /// What the run folder receives, and how often.
    #[serde(default)]
    pub output: OutputSettings,
    /// The model that the run starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartSettings>,
}

/// Images of one step (paper Table 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchSettings {
    /// Class groups, N_c.
    pub classes: usize,
    /// Generated images per class, N_gen; they are each other's negatives.
    pub generated: usize,
    /// Real images of the class, N_pos.
    pub positives: usize,
    /// Real images of any class, N_unc, weighted by alpha; 0 turns guidance off.
    pub unconditional: usize,
    /// Class groups that are worked at once; memory does not depend on the others. 0 for all of them, which is fastest.
    #[serde(default)]
    pub groups_at_once: usize,
}

/// Optimizer settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Constants of AdamW.
    pub adamw: AdamWSettings,
    /// Largest global norm of the gradients; larger ones are scaled down to it.
    pub clip: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self { adamw: AdamWSettings::default(), clip: 2.0 }
    }
}

impl OptimizerSettings {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.adamw.validate().map_err(|error| ConfigError::Section(format!("optimizer.adamw: {error}")))?;
        let problem = format!("{} is not a positive number", self.clip);
        let good = self.clip.is_finite() && self.clip > 0.0;
        if good { Ok(()) } else { Err(ConfigError::Invalid { key: "optimizer.clip".to_owned(), problem }) }
    }
}

/// Moving averages of the parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmaSettings {
    /// Decays, one average each; the first one is sampled and exported.
    pub decays: Vec<f64>,
}

impl Default for EmaSettings {
    fn default() -> Self {
        Self { decays: vec![0.999] }
    }
}

impl EmaSettings {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |problem: String| Err(ConfigError::Invalid { key: "ema.decays".to_owned(), problem });
        match self.decays.iter().find(|decay| !(0.0..1.0).contains(*decay)) {
            Some(decay) => invalid(format!("{decay} is not at least 0 and below 1")),
            None if self.decays.is_empty() => invalid("needs one decay".to_owned()),
            None => Ok(()),
        }
    }
}

/// How the model is sampled unless something else is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingSettings {
    /// Guidance strength.
    pub alpha: f32,
    /// Guidance strengths of the sample grids, one column each.
    pub grid_alphas: Vec<f32>,
    /// Images of each class and alpha in the sample grids.
    pub grid_images: usize,
    /// Classes of the sample grids, one row each; the first ones of the data.
    pub grid_classes: usize,
    /// Folder of an autoencoder that makes pictures of generated latents; without it a generator of latents leaves none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder: Option<PathBuf>,
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self { alpha: 1.0, grid_alphas: vec![1.0, 1.5, 2.0, 3.0], grid_images: 3, grid_classes: 10, decoder: None }
    }
}

/// What the run folder receives, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSettings {
    /// Steps between lines of `metrics.jsonl`.
    pub metrics_every: u64,
    /// Steps between sample grids; 0 for none but the last.
    pub samples_every: u64,
    /// Steps between checkpoints; 0 for none but the last.
    pub checkpoint_every: u64,
    /// Checkpoints that stay; older ones are deleted.
    pub keep_checkpoints: usize,
}

impl Default for OutputSettings {
    fn default() -> Self {
        Self { metrics_every: 10, samples_every: 500, checkpoint_every: 500, keep_checkpoints: 2 }
    }
}

/// The error names the table, which stands beside `data`.
fn check_augment(augment: &Augment) -> Result<(), ConfigError> {
    augment.validate().map_err(|error| ConfigError::Section(error.to_string().replacen("data.", "", 1)))
}

mod defaults {
    pub(super) fn seed() -> u64 {
        42
    }
}

impl TrainConfig {
    /// Checks every section and that they fit each other.
    ///
    /// # Errors
    /// Names the key and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, problem: String| Err(ConfigError::Invalid { key: key.to_owned(), problem });
        self.generator.validate().map_err(|error| ConfigError::Section(error.to_string()))?;
        self.drift.validate().map_err(|error| ConfigError::Section(error.to_string()))?;
        self.alpha.validate().map_err(|error| ConfigError::Section(error.to_string()))?;
        check_augment(&self.augment)?;
        self.loader.validate()?;
        if let Some(queue) = &self.queue {
            queue.validate(self.batch)?;
        }
        if let Some(evaluation) = &self.evaluation {
            evaluation.validate()?;
        }
        self.optimizer.validate()?;
        self.ema.validate()?;
        self.schedule.validate().map_err(|error| ConfigError::Section(format!("schedule: {error}")))?;
        self.features.validate(self.generator.image).map_err(|error| ConfigError::Section(error.to_string()))?;
        let BatchSettings { classes, generated, positives, .. } = self.batch;
        for (key, value) in [("batch.generated", generated), ("batch.positives", positives)] {
            if value == 0 {
                return invalid(key, "needs at least one image".to_owned());
            }
        }
        if !(1..=self.generator.classes).contains(&classes) {
            return invalid("batch.classes", format!("{classes} is not between 1 and {}", self.generator.classes));
        }
        let range = self.alpha_range();
        match self.sampling.grid_alphas.iter().chain([&self.sampling.alpha]).find(|alpha| !range.contains(**alpha)) {
            Some(alpha) => {
                invalid("sampling", format!("alpha {alpha} is not in the trained {}..{}", range.min, range.max))
            }
            None => Ok(()),
        }
    }

    /// The range of alpha that the run trains, with the default of sampling.
    #[must_use]
    pub fn alpha_range(&self) -> AlphaRange {
        let (min, max) = self.alpha.range();
        AlphaRange { min, max, default: self.sampling.alpha }
    }

    /// What the run draws real images from.
    #[must_use]
    pub fn reading(&self) -> Reading<'_> {
        let Self { data, augment, loader, seed, .. } = self;
        Reading { data, shape: self.generator.image, augment: *augment, loader: *loader, seed: *seed }
    }

    /// Images generated in one step.
    #[must_use]
    pub fn images_per_step(&self) -> usize {
        self.batch.classes * self.batch.generated
    }
}
