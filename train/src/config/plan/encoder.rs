//! What can be known of an encoder before its weights are there.

use std::path::Path;

use drifting_models::mae_parameter_count;
use drifting_spec::MaeConfig;

use super::{Plan, section};
use crate::config::{ConfigError, EncoderSettings, ExperimentConfig};

/// The masked autoencoder of a run, as far as its files tell.
pub(super) struct Encoder {
    pub(super) config: MaeConfig,
    pub(super) parameters: f64,
}

impl Encoder {
    /// From the settings in its run folder, the header of its file, or the name of a published one. What is not there is
    /// noted in `plan`.
    pub(super) fn of(settings: &EncoderSettings, plan: &mut Plan) -> Result<Option<Self>, ConfigError> {
        let path = settings.mae.as_path();
        plan.need("encoder", path);
        let Some(config) = in_run_folder(path).or_else(|| in_header(path)).or_else(|| published(path)) else {
            plan.notes.push("the encoder is not known before its file is there".to_owned());
            return Ok(None);
        };
        let parameters = section(mae_parameter_count(&config))?;
        Ok(Some(Self { config, parameters: parameters as f64 }))
    }
}

fn in_run_folder(path: &Path) -> Option<MaeConfig> {
    match ExperimentConfig::load(&path.join("config.toml"), &[]).ok()? {
        ExperimentConfig::Mae(config) => Some(config.mae),
        ExperimentConfig::Generator(_) | ExperimentConfig::Toy(_) => None,
    }
}

fn in_header(path: &Path) -> Option<MaeConfig> {
    let config = drifting_models::weights::read_metadata(path).ok()?.remove("config")?;
    serde_json::from_str(&config).ok()
}

fn published(path: &Path) -> Option<MaeConfig> {
    MaeConfig::published(&path.file_stem()?.to_string_lossy())
}
