//! What every kind of experiment has in common.

use super::{ConfigError, OutputSettings, StartSettings, TrainConfig};

/// The settings of an experiment, as the loop of a run sees them.
pub trait RunSettings: std::fmt::Debug {
    /// What is trained: `generator`, `mae`, ...
    fn kind(&self) -> &'static str;
    /// Name of the model.
    fn name(&self) -> &str;
    /// Seed of everything random.
    fn seed(&self) -> u64;
    /// Optimizer steps.
    fn steps(&self) -> u64;
    /// Images of one step, for rates.
    fn images_per_step(&self) -> usize;
    /// What the run folder receives, and how often.
    fn output(&self) -> &OutputSettings;
    /// The model that the run starts from; `None` for one that begins anew.
    fn start(&self) -> Option<&StartSettings>;
    /// The settings as TOML, every default written out.
    ///
    /// # Errors
    /// Only values that TOML cannot hold.
    fn to_toml(&self) -> Result<String, ConfigError>;
}

impl RunSettings for TrainConfig {
    fn kind(&self) -> &'static str {
        "generator"
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
        Self::images_per_step(self)
    }
    fn output(&self) -> &OutputSettings {
        &self.output
    }
    fn start(&self) -> Option<&StartSettings> {
        self.start.as_ref()
    }
    fn to_toml(&self) -> Result<String, ConfigError> {
        Self::to_toml(self)
    }
}
