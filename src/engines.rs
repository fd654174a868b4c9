//! The server's engines as judges of an export.

use std::path::Path;

use drifting_export::Runner;
use drifting_serve::Model;
use drifting_serve::engine::{self, Engine, EngineSettings};
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
