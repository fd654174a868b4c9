//! The server's engines as judges of an export.

use std::path::Path;

use drifting_export::{NetworkRunner, Runner};
use drifting_serve::Model;
use drifting_serve::engine::{self, Engine, EngineChoice, EngineSettings, Network};
use drifting_spec::Inputs;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An engine of the server that verifies an export.
struct EngineRunner {
    name: String,
    engine: Box<dyn Engine>,
}

impl Runner for EngineRunner {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, BoxError> {
        Ok(self.engine.run(inputs)?)
    }
}

/// The engine that a server would choose for the model at `path`, and rten, which is always there.
pub(crate) fn verifiers(path: &Path, settings: &EngineSettings) -> Result<Vec<Box<dyn Runner>>, BoxError> {
    let model = Model::open(path)?;
    let open = |settings: &EngineSettings| -> Result<Box<dyn Runner>, BoxError> {
        let engine = engine::open(&model, settings, &|message| eprintln!("{message}"))?;
        Ok(Box::new(EngineRunner { name: engine.info().to_string(), engine }))
    };
    let rten = EngineSettings {
        choice: engine::EngineChoice::Rten,
        provider: engine::ProviderSettings::default(),
        ..settings.clone()
    };
    let mut runners = vec![open(settings)?];
    if settings.choice != engine::EngineChoice::Rten {
        runners.push(open(&rten)?);
    }
    Ok(runners)
}

/// An engine of the server that verifies an encoder, or a decoder alone.
struct Judge {
    name: String,
    network: Box<dyn Network>,
}

impl NetworkRunner for Judge {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, shape: &[usize], input: &[f32], outputs: &[String]) -> Result<Vec<Vec<f32>>, BoxError> {
        Ok(self.network.run(shape, input, outputs)?)
    }
}

/// As [`verifiers`], for a network that is no generator.
pub(crate) fn network_verifiers(
    path: &Path,
    settings: &EngineSettings,
) -> Result<Vec<Box<dyn NetworkRunner>>, BoxError> {
    let mut choices = vec![settings.choice];
    if settings.choice != EngineChoice::Rten {
        choices.push(EngineChoice::Rten);
    }
    let open = |choice| -> Result<Box<dyn NetworkRunner>, BoxError> {
        let settings = EngineSettings { choice, ..settings.clone() };
        let network = engine::open_network(path, &settings, &|message| eprintln!("{message}"))?;
        Ok(Box::new(Judge { name: network.info().to_string(), network }))
    };
    choices.into_iter().map(open).collect()
}
