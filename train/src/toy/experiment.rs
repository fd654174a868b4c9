//! The toy as the experiment of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use candle_core::Tensor;
use drifting_models::nn::Params;
use serde_json::{Map, Value, json};

use super::{ToyConfig, ToyMetrics, ToyReport, ToyTrainer};
use crate::config::RunSettings;
use crate::optim::Ema;
use crate::run::{Experiment, Facts, Report, RunError};

/// Header entry of a weight file that holds the network's sizes.
const NETWORK_ENTRY: &str = "toy";

impl Experiment for ToyTrainer {
    fn settings(&self) -> &dyn RunSettings {
        self.config()
    }

    fn facts(&self) -> Result<Facts, RunError> {
        Ok(Facts { parameters: self.params().elements(), ..Facts::default() })
    }

    fn step_count(&self) -> u64 {
        Self::step_count(self)
    }

    fn step(&mut self) -> Result<Report, RunError> {
        let ToyReport { step, loss, gradient_norm, lr, wall } = Self::step(self)?;
        let metrics = object(json!({ "loss": loss, "gradient_norm": gradient_norm, "lr": lr }));
        let status = format!("loss {loss:.2e}, gradient {gradient_norm:.2e}");
        Ok(Report { step, wall, data_wait: Duration::ZERO, metrics, status })
    }

    fn batch_ids(&self) -> &[u64] {
        &[]
    }

    fn params(&self) -> &Params {
        Self::params(self)
    }

    fn averages(&self) -> &[Ema] {
        &[]
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>, RunError> {
        Ok(Self::state(self)?)
    }

    fn restore(&mut self, weights: BTreeMap<String, Tensor>, state: &BTreeMap<String, Tensor>) -> Result<(), RunError> {
        Ok(Self::restore(self, weights, state)?)
    }

    fn describe(&self, _decay: Option<f64>) -> Result<BTreeMap<String, String>, RunError> {
        let network = serde_json::to_string(&self.config().toy.network);
        let network = network.map_err(|error| RunError::file("model".as_ref(), error.to_string()))?;
        Ok(BTreeMap::from([(NETWORK_ENTRY.to_owned(), network)]))
    }

    fn picture(&self) -> Result<Option<Vec<u8>>, RunError> {
        Ok(Self::picture(self)?)
    }

    fn evaluate(&self, last: bool) -> Result<Option<Map<String, Value>>, RunError> {
        let every = self.config().toy.evaluate_every;
        if !last && (every == 0 || !Self::step_count(self).is_multiple_of(every)) {
            return Ok(None);
        }
        let ToyMetrics { samples_to_data, data_to_samples, modes } = self.metrics()?;
        let mut found = object(json!({ "samples_to_data": samples_to_data, "data_to_samples": data_to_samples }));
        if let Some(modes) = modes {
            for (mode, share) in modes.coverage.iter().enumerate() {
                found.insert(format!("coverage_{mode}"), json!(share));
            }
            found.insert("mean_distance_to_target".to_owned(), json!(modes.mean_distance_to_target));
            found.insert("mode_balance_error".to_owned(), json!(modes.mode_balance_error));
            found.insert("center_distance".to_owned(), json!(modes.center_distance));
        }
        Ok(Some(found))
    }
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(object) = value { object } else { Map::new() }
}

impl RunSettings for ToyConfig {
    fn kind(&self) -> &'static str {
        "toy"
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
        self.toy.generated
    }
    fn output(&self) -> &crate::config::OutputSettings {
        &self.output
    }
    fn start(&self) -> Option<&crate::config::StartSettings> {
        None
    }
    fn to_toml(&self) -> Result<String, crate::config::ConfigError> {
        crate::config::to_toml(self)
    }
}
