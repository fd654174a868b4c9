//! The learning rate as a function of the step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OptimError, Result};

/// Learning rate of step 0 when there is a warm-up (official code).
const START: f64 = 1e-6;

/// What happens after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Decay {
    /// The rate stays (official).
    #[default]
    Constant,
    /// Half a cosine down to `floor` at step `steps` (counted from the start of the run), and `floor` from there on.
    Cosine {
        /// Step at which the floor is reached.
        steps: u64,
        /// The last learning rate.
        floor: f64,
    },
}

/// Linear warm-up from 1e-6 to `lr`, then [`Decay`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Learning rate at the end of the warm-up.
    pub lr: f64,
    /// Steps of the warm-up; 0 for none.
    #[serde(default)]
    pub warmup_steps: u64,
    /// What happens afterwards.
    #[serde(default)]
    pub decay: Decay,
}

impl Schedule {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return Err(OptimError::Setting { key: "lr", value: self.lr, expected: "a positive number" });
        }
        if let Decay::Cosine { steps, floor } = self.decay {
            if steps <= self.warmup_steps {
                let expected = "more than warmup_steps";
                return Err(OptimError::Setting { key: "decay.cosine.steps", value: steps as f64, expected });
            }
            if !(0.0..=self.lr).contains(&floor) {
                let expected = "between 0 and lr";
                return Err(OptimError::Setting { key: "decay.cosine.floor", value: floor, expected });
            }
        }
        Ok(())
    }

    /// The learning rate of `step`, counted from 0.
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return START + (self.lr - START) * (step as f64 / self.warmup_steps as f64);
        }
        match self.decay {
            Decay::Constant => self.lr,
            Decay::Cosine { steps, floor } => {
                let length = steps.saturating_sub(self.warmup_steps).max(1);
                let part = ((step - self.warmup_steps) as f64 / length as f64).min(1.0);
                floor + (self.lr - floor) * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-15, "{left} {right}");
    }

    #[test]
    fn warm_up_is_linear_and_then_constant() {
        let schedule = Schedule { lr: 2e-3, warmup_steps: 100, decay: Decay::Constant };
        close(schedule.at(0), 1e-6);
        close(schedule.at(50), 1e-6 + (2e-3 - 1e-6) / 2.0);
        close(schedule.at(100), 2e-3);
        close(schedule.at(1_000_000), 2e-3);
        close(Schedule { warmup_steps: 0, ..schedule }.at(0), 2e-3);
    }

    #[test]
    fn cosine_ends_at_its_floor() {
        let schedule = Schedule { lr: 1.0, warmup_steps: 10, decay: Decay::Cosine { steps: 110, floor: 0.2 } };
        close(schedule.at(10), 1.0);
        close(schedule.at(60), 0.6);
        close(schedule.at(110), 0.2);
        close(schedule.at(500), 0.2);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let schedule = Schedule { lr: 1e-3, warmup_steps: 10, decay: Decay::Constant };
        schedule.validate().unwrap();
        let message = |schedule: Schedule| schedule.validate().unwrap_err().to_string();
        assert_eq!(message(Schedule { lr: -1.0, ..schedule }), "lr is -1, expected a positive number");
        let short = Decay::Cosine { steps: 10, floor: 0.0 };
        assert!(message(Schedule { decay: short, ..schedule }).starts_with("decay.cosine.steps is 10"));
        let high = Decay::Cosine { steps: 20, floor: 0.1 };
        assert!(message(Schedule { decay: high, ..schedule }).starts_with("decay.cosine.floor is 0.1"));
    }

    #[test]
    fn toml_says_what_is_meant() {
        let schedule: Schedule = toml::from_str("lr = 1e-3\ndecay = { cosine = { steps = 9, floor = 0 } }").unwrap();
        assert_eq!(schedule, Schedule { lr: 1e-3, warmup_steps: 0, decay: Decay::Cosine { steps: 9, floor: 0.0 } });
        assert!(toml::from_str::<Schedule>("lr = 1e-3\nwarmup = 4").is_err());
    }
}
