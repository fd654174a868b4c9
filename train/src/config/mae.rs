//! The settings of a masked autoencoder's training (method section 7.2).

use std::path::PathBuf;

use drifting_spec::MaeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ComputeSettings, ConfigError, EmaSettings, LoaderSettings, OptimizerSettings, OutputSettings, RunSettings,
    StartSettings, check_augment, defaults,
};
use crate::data::{Augment, DataSource, Reading};
use crate::optim::Schedule;

/// The training of a masked autoencoder, resolved and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaeTrainConfig {
    /// Name of the model.
    pub name: String,
    /// Seed of everything random.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// Optimizer steps, those of the fine-tuning included.
    pub steps: u64,
    /// Folder of an autoencoder (as `drifting data latents --vae` takes it) for a network that sees latents: each image is
    /// encoded after it was cropped and mirrored, as the authors train. Left out, the data are what the network sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoencoder: Option<PathBuf>,
    /// Real images.
    pub data: DataSource,
    /// What is done to each image.
    #[serde(default)]
    pub augment: Augment,
    /// Threads that read ahead.
    #[serde(default)]
    pub loader: LoaderSettings,
    /// How the networks compute.
    #[serde(default)]
    pub compute: ComputeSettings,
    /// Network.
    pub mae: MaeConfig,
    /// Images of one step.
    pub batch: ImageBatch,
    /// What is hidden from the encoder.
    #[serde(default)]
    pub masking: MaskSettings,
    /// Classification beside the reconstruction, at the end of the run.
    #[serde(default)]
    pub finetune: FinetuneSettings,
    /// Optimizer.
    #[serde(default)]
    pub optimizer: OptimizerSettings,
    /// Learning rate over the steps.
    pub schedule: Schedule,
    /// Moving averages; each is exported.
    #[serde(default = "official_ema")]
    pub ema: EmaSettings,
    /// Measurements on held-out images.
    #[serde(default)]
    pub evaluation: EvaluationSettings,
    /// What the run folder receives, and how often.
    #[serde(default)]
    pub output: OutputSettings,
    /// The model that the run starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartSettings>,
}

/// Images of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageBatch {
    /// Images whose mean loss a step goes down.
    pub images: usize,
    /// Images that are worked at once; memory does not depend on the others. 0 for all of them.
    #[serde(default)]
    pub images_at_once: usize,
}

/// What is hidden from the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaskSettings {
    /// Probability of each block of positions to be hidden.
    pub ratio: f64,
}

impl Default for MaskSettings {
    fn default() -> Self {
        Self { ratio: 0.5 }
    }
}

/// Classification beside the reconstruction: loss = weight * cross entropy + (1 - weight) * reconstruction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneSettings {
    /// The last steps of the run; 0 for none.
    pub steps: u64,
    /// Steps in which the weight grows from 0 to its full size.
    pub ramp: u64,
    /// Weight of the cross entropy after the ramp.
    pub weight: f64,
}

impl Default for FinetuneSettings {
    fn default() -> Self {
        Self { steps: 0, ramp: 1000, weight: 0.1 }
    }
}

impl FinetuneSettings {
    /// Weight of the cross entropy in step `step` (counted from 0) of a run of `total` steps: `weight` * min(1, k / ramp)
    /// with k steps since the start of the fine-tuning, 0 before it.
    #[must_use]
    pub fn weight_at(&self, step: u64, total: u64) -> f64 {
        let start = total.saturating_sub(self.steps);
        if self.steps == 0 || step < start {
            return 0.0;
        }
        self.weight * ((step - start) as f64 / self.ramp.max(1) as f64).min(1.0)
    }
}

/// Measurements on held-out images: the source's test images, or some of the training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationSettings {
    /// Steps between measurements; 0 for none but the last.
    pub every: u64,
    /// Held-out images that are measured on, at most.
    pub images: usize,
    /// For sources without test images: every how many-th image of each class is held out; 0 for none.
    pub hold_out: usize,
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self { every: 2000, images: 5000, hold_out: 0 }
    }
}

fn official_ema() -> EmaSettings {
    EmaSettings { decays: vec![0.9995] }
}

impl MaeTrainConfig {
    /// What the run draws images from; with an autoencoder the images have another shape than the network's.
    #[must_use]
    pub fn reading(&self) -> Reading<'_> {
        let Self { data, augment, loader, seed, .. } = self;
        Reading { data, shape: self.mae.image, augment: *augment, loader: *loader, seed: *seed }
    }

    /// Checks every section and that they fit each other.
    ///
    /// # Errors
    /// Names the key and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, problem: String| Err(ConfigError::Invalid { key: key.to_owned(), problem });
        self.mae.validate().map_err(|error| ConfigError::Section(error.to_string()))?;
        self.schedule.validate().map_err(|error| ConfigError::Section(format!("schedule: {error}")))?;
        check_augment(&self.augment)?;
        self.loader.validate()?;
        self.optimizer.validate()?;
        self.ema.validate()?;
        if self.batch.images == 0 {
            return invalid("batch.images", "needs at least one image".to_owned());
        }
        for (key, value) in [("masking.ratio", self.masking.ratio), ("finetune.weight", self.finetune.weight)] {
            if !(0.0..=1.0).contains(&value) {
                return invalid(key, format!("{value} is not between 0 and 1"));
            }
        }
        if self.evaluation.hold_out == 1 {
            return invalid("evaluation.hold_out", "1 would leave no image to train on; 0 holds none out".to_owned());
        }
        Ok(())
    }
}

impl RunSettings for MaeTrainConfig {
    fn kind(&self) -> &'static str {
        "mae"
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn seed(&self) -> u64 {
        self.seed
    }
    fn steps(&self) -> u64 {
        self.steps
    }
    fn images_per_step(&self) -> usize {
        self.batch.images
    }
    fn output(&self) -> &OutputSettings {
        &self.output
    }
    fn start(&self) -> Option<&StartSettings> {
        self.start.as_ref()
    }
    fn to_toml(&self) -> Result<String, ConfigError> {
        super::load::to_toml(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "test"
        steps = 10
        data = { embedded = "fashion-mnist" }
        mae = { image = { channels = 1, height = 28, width = 28 }, base_channels = 8, classes = 10 }
        batch = { images = 4 }
        schedule = { lr = 1e-3 }
    "#;

    fn with(change: &str) -> Result<MaeTrainConfig, ConfigError> {
        let config: MaeTrainConfig = super::super::load::parse(GOOD, "test", &[change.parse().unwrap()])?;
        config.validate().map(|()| config)
    }

    #[test]
    fn the_weight_of_the_classes_grows_over_the_ramp_of_the_last_steps() {
        let finetune = FinetuneSettings { steps: 3000, ..FinetuneSettings::default() };
        let at = |step| finetune.weight_at(step, 200_000);
        assert_eq!(
            [at(0), at(196_999), at(197_000), at(197_500), at(198_000), at(199_999)],
            [0.0, 0.0, 0.0, 0.05, 0.1, 0.1]
        );
        assert_eq!(FinetuneSettings::default().weight_at(9, 10), 0.0);
        assert_eq!(FinetuneSettings { steps: 99, ramp: 0, weight: 0.1 }.weight_at(1, 10), 0.1);
    }

    #[test]
    fn unsaid_settings_are_the_official_ones() {
        let config = with("seed=3").unwrap();
        assert_eq!((config.masking.ratio, config.ema.decays[0], config.finetune.steps), (0.5, 0.9995, 0));
        let again: MaeTrainConfig = super::super::load::parse(&config.to_toml().unwrap(), "resolved", &[]).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (change, expected) in [
            ("batch.images=0", "batch.images: needs at least one image"),
            ("masking.ratio=1.5", "masking.ratio: 1.5 is not between 0 and 1"),
            ("finetune.weight=-1", "finetune.weight: -1 is not between 0 and 1"),
            ("evaluation.hold_out=1", "evaluation.hold_out: 1 would leave"),
            ("mae.base_channels=0", "mae.base_channels"),
            ("ema.decays=[]", "ema.decays: needs one decay"),
            ("optimizer.clip=0", "optimizer.clip: 0 is not a positive number"),
            ("masking.ration=0.5", "did you mean `ratio`?"),
        ] {
            let found = with(change).unwrap_err().to_string();
            assert!(found.contains(expected), "{change}: {found}");
        }
    }
}
