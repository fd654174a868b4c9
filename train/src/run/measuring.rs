//! Measurements on generated images at intervals of a run.

use std::fmt;

use drifting_models::Generator;
use drifting_models::autoencoder::Autoencoder;
use drifting_spec::ImageShape;
use serde_json::{Map, Value, json};

use super::RunError;
use crate::config::{MeasuringSettings, TrainConfig};
use crate::eval::{
    Contract, EvalError, GeneratedImages, Measure, Network, Provenance, Rounding, Settings, Sizing, Statistics,
    Yardstick,
};

/// Seed of the images that are measured; training never saw their noise.
const SEED: u64 = 1_000_003;

/// Network and statistics that a run's images are held against.
pub(super) struct Measuring<'a> {
    settings: &'a MeasuringSettings,
    network: Box<dyn Network>,
    statistics: Statistics,
    contract: Contract,
    shape: ImageShape,
}

impl fmt::Debug for Measuring<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Measuring").field("settings", self.settings).finish_non_exhaustive()
    }
}

impl<'a> Measuring<'a> {
    /// Opens the network and the statistics, and holds them against each other before anything is trained.
    ///
    /// # Errors
    /// Files that cannot be read, statistics of another contract, a generator that makes no pictures.
    pub(super) fn open(
        config: &'a TrainConfig,
        settings: &'a MeasuringSettings,
        decoder: Option<&dyn Autoencoder>,
    ) -> Result<Self, RunError> {
        let image = config.generator.image;
        let shape = decoder.map_or(Ok(image), |decoder| decoder.image_shape(image))?;
        if !matches!(shape.channels, 1 | 3) {
            let problem = format!("the generator makes latents of {} channels: set sampling.decoder", shape.channels);
            return Err(RunError::mismatch("evaluation", problem));
        }
        let (network, statistics) =
            (settings.network.open(&settings.weights, Sizing::default())?, Statistics::open(&settings.statistics)?);
        let rounding = if network.distance_name() == "FID" { Rounding::Truncated } else { Rounding::Nearest };
        let contract = Contract::new(network.as_ref(), shape, rounding);
        let measuring = Self { settings, network, statistics, contract, shape };
        measuring.yardstick().map_err(|error| match error {
            EvalError::Contract(_) | EvalError::Samples(_) => {
                RunError::file(&settings.statistics, format!("evaluation.statistics: {error}"))
            }
            error => error.into(),
        })?;
        Ok(measuring)
    }

    /// Whether something is to be measured after this step.
    pub(super) fn is_due(&self, step: u64, last: bool) -> bool {
        last || self.settings.every > 0 && step.is_multiple_of(self.settings.every)
    }

    /// What is found, by name, and how it was.
    ///
    /// # Errors
    /// Images that are not finite.
    pub(super) fn measure(
        &self,
        generator: &Generator,
        alpha: f32,
        decoder: Option<&dyn Autoencoder>,
    ) -> Result<Map<String, Value>, RunError> {
        let (per_class, rounding, shape) = (self.settings.images, self.contract.rounding, self.shape);
        let mut images =
            GeneratedImages { generator, decoder, seed: SEED, alpha, per_class, range: [-1.0, 1.0], rounding, shape };
        let provenance = Provenance { alpha: Some(alpha), seed: Some(SEED), ..Provenance::default() };
        let found = self.yardstick()?.measure(&mut images, self.contract.clone(), provenance, &mut |_| ())?;
        let mut line = Map::new();
        line.insert("alpha".into(), json!(alpha));
        line.insert("images".into(), json!(per_class * generator.config().classes));
        line.insert("network_sha256".into(), json!(self.network.sha256()));
        if let Some(comparable) = found.comparable {
            line.insert("comparable".into(), json!(comparable));
        }
        line.extend(found.figures.iter().map(|figure| (figure.name.clone(), json!(figure.value))));
        Ok(line)
    }

    fn yardstick(&self) -> Result<Yardstick<'_>, EvalError> {
        let (network, measures) = (self.network.as_ref(), vec![Measure::Frechet]);
        let settings = Settings { network, measures, classes: Vec::new(), labelled: false, seed: SEED };
        Yardstick::of_statistics(settings, self.statistics.clone(), &self.contract, false)
    }
}
