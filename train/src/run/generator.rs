//! A generator as the experiment of a run.

use std::collections::BTreeMap;

use candle_core::Tensor;
use drifting_models::autoencoder::Autoencoder;
use drifting_models::nn::Params;
use drifting_spec::{Manifest, Provenance};
use serde_json::{Map, Value, json};

use super::checkpoint::MANIFEST_ENTRY;
use super::measuring::Measuring;
use super::{Experiment, Facts, Report, RunError, samples};
use crate::config::{RunSettings, TrainConfig};
use crate::data::{Feed, FeedCounters, open_autoencoder};
use crate::optim::Ema;
use crate::ranks::Ranks;
use crate::trainer::{StepReport, TrainError, Trainer};

/// A generator in training.
#[derive(Debug)]
pub struct GeneratorRun<'a> {
    config: &'a TrainConfig,
    trainer: Trainer<'a>,
    /// Makes pictures of generated latents.
    decoder: Option<Box<dyn Autoencoder>>,
    measuring: Option<Measuring<'a>>,
}

impl<'a> GeneratorRun<'a> {
    /// Step 0 of a run on the images of `feed`. All networks of this process compute as the run's settings say from now on.
    ///
    /// # Errors
    /// Settings that contradict themselves or the data; a decoder of samples that cannot be read or takes other latents.
    pub fn new(config: &'a TrainConfig, feed: Box<dyn Feed>) -> Result<Self, RunError> {
        config.compute.apply();
        let decoder = config.sampling.decoder.as_deref().map(open_autoencoder).transpose()?;
        if let Some(decoder) = &decoder {
            decoder.image_shape(config.generator.image)?;
        }
        let measuring =
            config.evaluation.as_ref().map(|settings| Measuring::open(config, settings, decoder.as_deref()));
        Ok(Self { config, trainer: Trainer::new(config, feed)?, measuring: measuring.transpose()?, decoder })
    }

    /// Shares the steps with other processes.
    ///
    /// # Errors
    /// More processes than class groups.
    pub fn among(self, ranks: &'a dyn Ranks) -> Result<Self, RunError> {
        Ok(Self { trainer: self.trainer.among(ranks)?, ..self })
    }

    fn metrics(&self, report: &StepReport) -> Result<Map<String, Value>, serde_json::Error> {
        let FeedCounters { underflows, repeated, replaced, .. } = self.trainer.feed_counters();
        let mut metrics = Map::new();
        metrics.insert("gradient_norm".into(), json!(report.gradient_norm));
        metrics.insert("lr".into(), json!(report.lr));
        metrics.insert("alpha".into(), json!(report.alpha));
        // Flat by construction: no measure of progress.
        metrics.insert("loss".into(), json!(report.loss));
        metrics.insert("keys".into(), serde_json::to_value(&report.keys)?);
        metrics.insert("seconds".into(), serde_json::to_value(report.timings.seconds())?);
        let feed = json!({ "underflows": underflows, "repeated": repeated, "replaced": replaced });
        metrics.insert("feed".into(), feed);
        Ok(metrics)
    }
}

/// Names of feature keys that a status line has room for.
const STATUS_KEYS: usize = 5;

impl Experiment for GeneratorRun<'_> {
    fn settings(&self) -> &dyn RunSettings {
        self.config
    }

    fn facts(&self) -> Result<Facts, RunError> {
        let info = self.trainer.data();
        Ok(Facts {
            parameters: self.params().elements(),
            data_images: info.images,
            data_classes: info.classes.clone(),
            data_sha256: info.sha256.clone(),
            weights: self.trainer.weight_files().clone(),
        })
    }

    fn step_count(&self) -> u64 {
        self.trainer.step_count()
    }

    fn step(&mut self) -> Result<Report, RunError> {
        let report = match self.trainer.step() {
            // Step and images are added by the loop.
            Err(TrainError::Step { source, .. }) => return Err(RunError::Computation(source)),
            report => report?,
        };
        let keys = report.keys.iter().take(STATUS_KEYS);
        let distance: Vec<_> = keys.map(|(key, found)| format!("{key} {:.2}", found.scale)).collect();
        let status = format!("gradient {:.2}, distance {}", report.gradient_norm, distance.join(" "));
        let metrics = self.metrics(&report).map_err(|error| RunError::file("metrics".as_ref(), error.to_string()))?;
        let StepReport { step, wall, data_wait, .. } = report;
        Ok(Report { step, wall, data_wait, metrics, status })
    }

    fn batch_ids(&self) -> &[u64] {
        self.trainer.batch_ids()
    }

    fn params(&self) -> &Params {
        self.trainer.generator().params()
    }

    fn averages(&self) -> &[Ema] {
        self.trainer.averages()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>, RunError> {
        Ok(self.trainer.optimizer_state()?)
    }

    fn restore(&mut self, weights: BTreeMap<String, Tensor>, state: &BTreeMap<String, Tensor>) -> Result<(), RunError> {
        Ok(self.trainer.restore(weights, state)?)
    }

    fn describe(&self, decay: Option<f64>) -> Result<BTreeMap<String, String>, RunError> {
        let config = self.config;
        let provenance = provenance(self.step_count(), decay);
        let manifest = Manifest::new(config.name.clone(), config.generator.clone(), config.alpha_range());
        let manifest = Manifest { classes: self.trainer.data().classes.clone(), provenance, ..manifest };
        let json = manifest.to_json().map_err(|error| RunError::file("model".as_ref(), error.to_string()))?;
        Ok(BTreeMap::from([(MANIFEST_ENTRY.to_owned(), json)]))
    }

    fn picture(&self) -> Result<Option<Vec<u8>>, RunError> {
        let decoder = self.decoder.as_deref();
        if decoder.is_none() && !matches!(self.config.generator.image.channels, 1 | 3) {
            return Ok(None);
        }
        samples::grid(&self.trainer.averaged_generator()?, self.config, decoder).map(Some)
    }

    fn evaluate(&self, last: bool) -> Result<Option<Map<String, Value>>, RunError> {
        let Some(measuring) = self.measuring.as_ref().filter(|some| some.is_due(self.step_count(), last)) else {
            return Ok(None);
        };
        let generator = self.trainer.averaged_generator()?;
        measuring.measure(&generator, self.config.sampling.alpha, self.decoder.as_deref()).map(Some)
    }
}

/// Where weights come from; the hash is that of the file and filled in by who reads it.
pub(crate) fn provenance(step: u64, ema_decay: Option<f64>) -> Provenance {
    let tool_version = env!("CARGO_PKG_VERSION").to_owned();
    Provenance { step, ema_decay, weights_sha256: String::new(), tool_version }
}
