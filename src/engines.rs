//! The server's engines as judges of an export.

use std::path::Path;

use drifting_export::{NetworkRunner, Open, OpenNetwork, Runner};
use drifting_serve::Model;
use drifting_serve::engine::{self, Engine, EngineChoice, EngineSettings, Network};
use drifting_spec::Inputs;

use crate::memory;

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
            memory::release();
            let engine = engine::open(&model, &settings, &|message| eprintln!("{message}"))?;
            Ok(Box::new(EngineRunner { name: engine.info().to_string(), engine }) as Box<dyn Runner>)
        })
    };
    choices(settings).into_iter().map(open).collect()
}

/// The settings of an engine that was chosen, and of rten.
fn choices(settings: &EngineSettings) -> Vec<EngineSettings> {
    let rten = EngineSettings {
        choice: EngineChoice::Rten,
        provider: engine::ProviderSettings::default(),
        ..settings.clone()
    };
    let chosen = (settings.choice != EngineChoice::Rten).then(|| settings.clone());
    chosen.into_iter().chain([rten]).collect()
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
pub(crate) fn network_verifiers(settings: &EngineSettings) -> Vec<OpenNetwork<'_>> {
    let open = |settings: EngineSettings| -> OpenNetwork<'_> {
        Box::new(move |path: &Path| {
            memory::release();
            let network = engine::open_network(path, &settings, &|message| eprintln!("{message}"))?;
            Ok(Box::new(Judge { name: network.info().to_string(), network }) as Box<dyn NetworkRunner>)
        })
    };
    choices(settings).into_iter().map(open).collect()
}
