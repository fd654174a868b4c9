//! An experiment file: its sections tell what is trained.

use std::path::Path;

use toml::Table;

use super::load::{parse, table};
use super::{ConfigError, MaeTrainConfig, Override, RunSettings, TrainConfig};
use crate::data::{Augment, Crop, DataError, DataSource};
use crate::toy::ToyConfig;

/// The settings of an experiment, whatever it trains.
#[derive(Clone, Debug, PartialEq)]
pub enum ExperimentConfig {
    /// A generator: the file has a section `[generator]`.
    Generator(Box<TrainConfig>),
    /// A masked autoencoder: the file has a section `[mae]`.
    Mae(Box<MaeTrainConfig>),
    /// Points in the plane: the file has a section `[toy]`.
    Toy(Box<ToyConfig>),
}

impl ExperimentConfig {
    /// Reads a file, applies the overrides in their order and checks the result.
    ///
    /// # Errors
    /// Names the file, key or flag and what would be right.
    pub fn load(path: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// As [`ExperimentConfig::load`] from text; `origin` is what errors call it.
    ///
    /// # Errors
    /// Names the key or flag and what would be right.
    pub fn parse(text: &str, origin: &str, overrides: &[Override]) -> Result<Self, ConfigError> {
        let sections: Table = table(text, origin, overrides)?;
        let found = Self::KINDS.iter().filter(|(section, _)| sections.contains_key(*section));
        match found.collect::<Vec<_>>().as_slice() {
            [(_, read)] => read(text, origin, overrides),
            found => {
                let names = |kinds: &[&(&str, Reader)]| {
                    kinds.iter().map(|(section, _)| format!("[{section}]")).collect::<Vec<_>>().join(", ")
                };
                let all = names(&Self::KINDS.iter().collect::<Vec<_>>());
                let has = if found.is_empty() { "none".to_owned() } else { names(found) };
                let problem = format!("one of the sections {all} says what is trained; the file has {has}");
                Err(ConfigError::Parse { origin: origin.to_owned(), problem })
            }
        }
    }

    /// The section that tells each kind, and how it is read.
    const KINDS: [(&'static str, Reader); 3] = [("generator", generator), ("mae", mae), ("toy", toy)];

    /// Changes the number of steps.
    pub fn set_steps(&mut self, steps: u64) {
        match self {
            Self::Generator(config) => config.steps = steps,
            Self::Mae(config) => config.steps = steps,
            Self::Toy(config) => config.steps = steps,
        }
    }

    /// Changes where the images come from; points in the plane come from nowhere.
    pub fn set_data(&mut self, data: DataSource) {
        match self {
            Self::Generator(config) => config.data = data,
            Self::Mae(config) => config.data = data,
            Self::Toy(_) => {}
        }
    }

    /// Opens the training images to count them; `None` for points in the plane.
    ///
    /// # Errors
    /// As [`Reading::images`](crate::data::Reading::images).
    pub fn count_images(&self) -> Result<Option<usize>, DataError> {
        let reading = match self {
            Self::Generator(config) => config.reading(),
            Self::Mae(config) => config.reading(),
            Self::Toy(_) => return Ok(None),
        };
        let encoded = matches!(self, Self::Mae(config) if config.autoencoder.is_some());
        let report = if encoded {
            // The shape of the images is the autoencoder's to tell; a crop leaves it open.
            let augment = Augment { crop: Crop::Adm, ..reading.augment };
            reading.data.open_source(reading.shape, &augment)?.1
        } else {
            reading.images()?.1
        };
        Ok(Some(report.images))
    }

    /// What every kind of experiment has in common.
    #[must_use]
    pub fn settings(&self) -> &dyn RunSettings {
        match self {
            Self::Generator(config) => config.as_ref(),
            Self::Mae(config) => config.as_ref(),
            Self::Toy(config) => config.as_ref(),
        }
    }
}

/// Reads one kind of settings: text, what errors call it, overrides.
type Reader = fn(&str, &str, &[Override]) -> Result<ExperimentConfig, ConfigError>;

fn generator(text: &str, origin: &str, overrides: &[Override]) -> Result<ExperimentConfig, ConfigError> {
    Ok(ExperimentConfig::Generator(Box::new(TrainConfig::parse(text, origin, overrides)?)))
}

fn mae(text: &str, origin: &str, overrides: &[Override]) -> Result<ExperimentConfig, ConfigError> {
    let config: MaeTrainConfig = parse(text, origin, overrides)?;
    config.validate()?;
    Ok(ExperimentConfig::Mae(Box::new(config)))
}

fn toy(text: &str, origin: &str, overrides: &[Override]) -> Result<ExperimentConfig, ConfigError> {
    let config: ToyConfig = parse(text, origin, overrides)?;
    config.validate()?;
    Ok(ExperimentConfig::Toy(Box::new(config)))
}
