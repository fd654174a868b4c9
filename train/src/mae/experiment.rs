//! A masked autoencoder as the experiment of a run.

use candle_core::Tensor;
use drifting_models::nn::Params;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use super::evaluation::{evaluate, spread};
use super::picture::picture;
use super::trainer::{MaeReport, MaeTrainer};
use crate::config::{MaeTrainConfig, RunSettings};
use crate::data::{self, DirectBatches, Encoding, LabelledBatch, LabelledBatches, Reading, open_autoencoder};
use crate::optim::Ema;
use crate::run::{Experiment, Facts, Report, RunError, provenance};

/// A masked autoencoder in training.
#[derive(Debug)]
pub struct MaeRun<'a> {
    trainer: MaeTrainer<'a>,
    held_out: Option<LabelledBatch>,
    weights: BTreeMap<String, String>,
}

impl<'a> MaeRun<'a> {
    /// Step 0 of a run on `batches`, measured on `held_out`.
    ///
    /// # Errors
    /// Settings that contradict themselves or the data.
    pub fn new(
        config: &'a MaeTrainConfig,
        batches: Box<dyn LabelledBatches>,
        held_out: Option<LabelledBatch>,
    ) -> Result<Self, RunError> {
        let trainer = MaeTrainer::new(config, batches)?;
        let held_out = held_out.filter(|batch| !batch.labels.is_empty());
        Ok(Self { trainer, held_out, weights: BTreeMap::new() })
    }

    /// Opens the images that the settings name, and the held-out ones: the source's test images, or some of the training
    /// images.
    ///
    /// # Errors
    /// A source that is missing or broken, settings that contradict themselves or the data.
    pub fn open(config: &'a MaeTrainConfig) -> Result<(Self, data::Report), RunError> {
        config.compute.apply();
        let encoding = match &config.autoencoder {
            Some(folder) => Some(Encoding::new(open_autoencoder(folder)?.into(), config.mae.image, config.seed)?),
            None => None,
        };
        let shape = encoding.as_ref().map_or(config.mae.image, Encoding::image);
        let reading = Reading { shape, ..config.reading() };
        let (images, held_out, report) = reading.images_and_held_out(config.evaluation.hold_out)?;
        let count = config.evaluation.images;
        let held_out = held_out.map(|images| spread(&images, count, encoding.as_ref())).transpose()?;
        let mut batches = DirectBatches::of(images, reading.loader, reading.seed);
        let weights = encoding.iter().map(Encoding::weights).collect();
        if let Some(encoding) = encoding {
            batches = batches.encoded(encoding);
        }
        Ok((Self { weights, ..Self::new(config, Box::new(batches), held_out)? }, report))
    }

    /// Images that are measured on.
    #[must_use]
    pub fn held_out(&self) -> usize {
        self.held_out.as_ref().map_or(0, |batch| batch.labels.len())
    }

    fn json(value: serde_json::Result<String>) -> Result<String, RunError> {
        value.map_err(|error| RunError::file("model".as_ref(), error.to_string()))
    }
}

impl Experiment for MaeRun<'_> {
    fn settings(&self) -> &dyn RunSettings {
        self.trainer.config
    }

    fn facts(&self) -> Result<Facts, RunError> {
        let info = self.trainer.batches.info();
        Ok(Facts {
            parameters: self.trainer.mae.params().elements(),
            data_images: info.images,
            data_classes: info.classes.clone(),
            data_sha256: info.sha256.clone(),
            weights: self.weights.clone(),
        })
    }

    fn step_count(&self) -> u64 {
        self.trainer.learner.step_count()
    }

    fn step(&mut self) -> Result<Report, RunError> {
        let MaeReport { step, recon, cross_entropy, accuracy, class_weight, gradient_norm, lr, data_wait, wall } =
            self.trainer.step()?;
        let metrics = json!({
            "recon": recon,
            "cross_entropy": cross_entropy,
            "accuracy": accuracy,
            "class_weight": class_weight,
            "gradient_norm": gradient_norm,
            "lr": lr,
        });
        let Value::Object(metrics) = metrics else { return Err(RunError::file("metrics".as_ref(), "is no object")) };
        let accuracy = 100.0 * accuracy;
        let status = format!("gradient {gradient_norm:.2}, recon {recon:.4}, masked accuracy {accuracy:.1} %");
        Ok(Report { step, wall, data_wait, metrics, status })
    }

    fn batch_ids(&self) -> &[u64] {
        &self.trainer.last.ids
    }

    fn params(&self) -> &Params {
        self.trainer.mae.params()
    }

    fn averages(&self) -> &[Ema] {
        self.trainer.learner.averages()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>, RunError> {
        Ok(self.trainer.learner.state(self.params())?)
    }

    fn restore(&mut self, weights: BTreeMap<String, Tensor>, state: &BTreeMap<String, Tensor>) -> Result<(), RunError> {
        self.trainer.restore(weights, state)
    }

    fn describe(&self, decay: Option<f64>) -> Result<BTreeMap<String, String>, RunError> {
        let (config, info) = (self.trainer.config, self.trainer.batches.info());
        Ok(BTreeMap::from([
            ("kind".to_owned(), config.kind().to_owned()),
            ("config".to_owned(), Self::json(serde_json::to_string(&config.mae))?),
            ("name".to_owned(), config.name.clone()),
            ("classes".to_owned(), Self::json(serde_json::to_string(&info.classes))?),
            ("data_sha256".to_owned(), info.sha256.clone()),
            ("provenance".to_owned(), Self::json(serde_json::to_string(&provenance(self.step_count(), decay)))?),
        ]))
    }

    fn picture(&self) -> Result<Option<Vec<u8>>, RunError> {
        picture(&self.trainer, self.held_out.as_ref().unwrap_or(&self.trainer.last))
    }

    fn evaluate(&self, last: bool) -> Result<Option<Map<String, Value>>, RunError> {
        let every = self.trainer.config.evaluation.every;
        match &self.held_out {
            Some(held_out) if last || (every > 0 && self.step_count().is_multiple_of(every)) => {
                evaluate(&self.trainer, held_out).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn export_name(&self, decay: f64) -> Option<String> {
        Some(format!("mae_ema_{decay}.safetensors"))
    }
}
