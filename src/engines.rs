//! The server's engines as judges of an export.

use std::path::Path;

use drifting_export::{Open, Runner};
use drifting_serve::Model;
use drifting_serve::engine::{self, Engine, EngineChoice, EngineSettings};
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

/// The engine that a server would choose for a model, and rten, which is always there; each is loaded when its turn comes.
pub(crate) fn verifiers(settings: &EngineSettings) -> Vec<Open<'_>> {
    let open = |settings: EngineSettings| -> Open<'_> {
        Box::new(move |path: &Path| {
            let model = Model::open(path)?;
            let engine = engine::open(&model, &settings, &|message| eprintln!("{message}"))?;
            Ok(Box::new(EngineRunner { name: engine.info().to_string(), engine }) as Box<dyn Runner>)
        })
    };
    let rten = EngineSettings { choice: EngineChoice::Rten, ..settings.clone() };
    let first = (settings.choice != EngineChoice::Rten).then(|| open(settings.clone()));
    first.into_iter().chain([open(rten)]).collect()
}
