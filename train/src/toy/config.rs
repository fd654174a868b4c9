//! The settings of a toy experiment: one TOML file with a section `[toy]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DIM, MlpConfig, Target};
use crate::config::{ConfigError, OptimizerSettings, OutputSettings};
use crate::drift::DriftSettings;
use crate::optim::Schedule;

/// A toy experiment, resolved and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToyConfig {
    /// Name of the experiment.
    pub name: String,
    /// Seed of everything random.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Runs that differ in the factors of attraction and repulsion; each has a folder in that of the experiment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ablations: Vec<Ablation>,
    /// What is learned, and by what.
    pub toy: ToySettings,
    /// The objective.
    #[serde(default)]
    pub drift: DriftSettings,
    /// Optimizer.
    #[serde(default)]
    pub optimizer: OptimizerSettings,
    /// Learning rate over the steps.
    pub schedule: Schedule,
    /// What the run folder receives, and how often.
    #[serde(default)]
    pub output: OutputSettings,
}

/// What is learned, and by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToySettings {
    /// Distribution of the data.
    pub target: Target,
    /// Points generated in one step; they are each other's negatives.
    pub generated: usize,
    /// Points of the data in one step.
    pub positives: usize,
    /// Points that pictures and metrics are made of.
    #[serde(default = "evaluated")]
    pub evaluated: usize,
    /// Steps between measurements; 0 for none but the last.
    #[serde(default = "evaluate_every")]
    pub evaluate_every: u64,
    /// Where the generated points are at the start; without it, where the fresh network puts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartCloud>,
    /// The generator.
    #[serde(default)]
    pub network: MlpConfig,
}

/// Where the generated points are at the start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartCloud {
    /// Their mean.
    pub center: [f32; DIM],
    /// Their standard deviation in each coordinate.
    pub spread: f32,
}

/// One run of an ablation of the drift's anti-symmetry (paper Table 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// Name of the run and of its folder.
    pub name: String,
    /// In place of `drift.attraction`.
    #[serde(default = "one")]
    pub attraction: f32,
    /// In place of `drift.repulsion`.
    #[serde(default = "one")]
    pub repulsion: f32,
}

fn seed() -> u64 {
    42
}

fn evaluated() -> usize {
    2048
}

fn evaluate_every() -> u64 {
    100
}

fn one() -> f32 {
    1.0
}

impl ToyConfig {
    /// Checks every section.
    ///
    /// # Errors
    /// Names the key and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, problem: String| Err(ConfigError::Invalid { key: key.to_owned(), problem });
        self.drift.validate().map_err(|error| ConfigError::Section(error.to_string()))?;
        self.optimizer.adamw.validate().map_err(|error| ConfigError::Section(format!("optimizer.adamw: {error}")))?;
        self.schedule.validate().map_err(|error| ConfigError::Section(format!("schedule: {error}")))?;
        let ToySettings { generated, positives, evaluated, network, start, target, .. } = &self.toy;
        for (key, value, least) in [
            ("toy.generated", *generated, 2),
            ("toy.positives", *positives, 1),
            ("toy.evaluated", *evaluated, 2),
            ("toy.network.noise", network.noise, 1),
            ("toy.network.hidden", network.hidden, 1),
        ] {
            if !(least..=1 << 16).contains(&value) {
                return invalid(key, format!("{value} is not between {least} and 65536"));
            }
        }
        if network.depth > 64 {
            return invalid("toy.network.depth", format!("{} is more than 64", network.depth));
        }
        if let Some(problem) = target.problem() {
            return invalid("toy.target", problem);
        }
        if let Some(StartCloud { center, spread }) = start
            && !(center.iter().all(|value| value.is_finite()) && spread.is_finite() && *spread > 0.0)
        {
            return invalid("toy.start", "needs a finite center and a positive spread".to_owned());
        }
        if !(self.optimizer.clip.is_finite() && self.optimizer.clip > 0.0) {
            return invalid("optimizer.clip", format!("{} is not a positive number", self.optimizer.clip));
        }
        self.validate_ablations()
    }

    fn validate_ablations(&self) -> Result<(), ConfigError> {
        for (number, ablation) in self.ablations.iter().enumerate() {
            let Ablation { name, attraction, repulsion } = ablation;
            let letters = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let problem = if name.is_empty() || !name.chars().all(letters) {
                format!("{name:?} is no name of a folder: letters, digits, _ and - are")
            } else if self.ablations[..number].iter().any(|other| other.name == *name) {
                format!("{name} is named twice")
            } else if let Some(factor) = [attraction, repulsion].into_iter().find(|f| !(0.0..1e6).contains(*f)) {
                format!("{name}: factor {factor} is not between 0 and 1000000")
            } else {
                continue;
            };
            return Err(ConfigError::Invalid { key: "ablations".to_owned(), problem });
        }
        Ok(())
    }

    /// The settings of one ablation's run.
    #[must_use]
    pub fn ablated(&self, ablation: &Ablation) -> Self {
        let mut config =
            Self { name: format!("{}/{}", self.name, ablation.name), ablations: Vec::new(), ..self.clone() };
        (config.drift.attraction, config.drift.repulsion) = (ablation.attraction, ablation.repulsion);
        config
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const SMALL: &str = r#"
        name = "test"
        steps = 60
        ablations = [{ name = "baseline" }, { name = "attraction_only", repulsion = 0.0 }]
        schedule = { lr = 3e-3 }
        [toy]
        target = { gaussians = { centers = [[-2.5, 0.0], [2.5, 0.0]], deviation = 0.35 } }
        generated = 64
        positives = 64
        evaluated = 128
        network = { noise = 2, hidden = 32, depth = 2, activation = "gelu" }
        start = { center = [0.0, 0.0], spread = 0.5 }
    "#;

    fn parsed(change: impl Fn(&mut ToyConfig)) -> Result<(), String> {
        let mut config: ToyConfig = toml::from_str(SMALL).unwrap();
        change(&mut config);
        config.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn settings_out_of_range_are_named() {
        parsed(|_| ()).unwrap();
        assert_eq!(parsed(|c| c.toy.generated = 1).unwrap_err(), "toy.generated: 1 is not between 2 and 65536");
        let none = Target::Gaussians { centers: Vec::new(), deviation: 1.0 };
        assert_eq!(
            parsed(|c| c.toy.target = none.clone()).unwrap_err(),
            "toy.target: gaussians need at least one of centers"
        );
        let flat = StartCloud { center: [0.0; 2], spread: 0.0 };
        assert!(parsed(|c| c.toy.start = Some(flat)).unwrap_err().starts_with("toy.start: needs"));
        assert_eq!(
            parsed(|c| c.ablations[1].name = "baseline".into()).unwrap_err(),
            "ablations: baseline is named twice"
        );
        assert!(parsed(|c| c.ablations[0].name = "../up".into()).unwrap_err().contains("no name of a folder"));
    }

    #[test]
    fn an_ablation_changes_the_two_factors_and_nothing_else() {
        let config: ToyConfig = toml::from_str(SMALL).unwrap();
        let only = config.ablated(&config.ablations[1]);
        assert_eq!(
            (only.drift.attraction, only.drift.repulsion, only.name.as_str()),
            (1.0, 0.0, "test/attraction_only")
        );
        let back = ToyConfig {
            name: config.name.clone(),
            ablations: config.ablations.clone(),
            drift: config.drift.clone(),
            ..only
        };
        assert_eq!(back, config);
    }
}
