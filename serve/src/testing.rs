//! What the unit tests of this crate share.

use std::sync::{Arc, Condvar, Mutex};

use drifting_spec::{AlphaRange, GeneratorConfig, ImageShape, Inputs, Manifest};

use crate::engine::{Engine, EngineError, EngineInfo};
use crate::model::{Model, Source};
use crate::models::{Models, Part};
use crate::service::Limits;

/// A tiny generator of five classes.
pub(crate) fn manifest() -> Manifest {
    let image = ImageShape { channels: 1, height: 4, width: 4 };
    let generator = GeneratorConfig { style_tokens: 2, ..GeneratorConfig::new(image, 2, 8, 1, 1, 5) };
    let alpha = AlphaRange { min: 1.0, max: 4.0, default: 1.5 };
    let classes = ["Shirt", "Coat", "Bag", "Boot", "Été"].map(str::to_owned).into();
    Manifest { classes, ..Manifest::new("tiny".to_owned(), generator, alpha) }
}

/// A server of the tiny generator, whose engine never waits.
pub(crate) fn models() -> Arc<Models> {
    let (source, sha256) = (Source::Bytes(Vec::new()), String::new());
    let model = Model { manifest: manifest(), source, size: 0, sha256, profile: None };
    let part = Part { name: "tiny".to_owned(), model, engines: vec![Box::new(Gate::opened().engine())] };
    Models::start(vec![part], Limits::default()).unwrap()
}

/// Information of an engine that exists in tests only.
pub(crate) fn info() -> EngineInfo {
    let version = "1.0".to_owned();
    EngineInfo { name: "test", version, provider: "test-cpu", threads: 1, library: None, fallback: None }
}

/// Holds an engine back until it is opened, and writes down its batches.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<Record>, Condvar)>);

#[derive(Default)]
struct Record {
    open: bool,
    batches: Vec<usize>,
}

impl Gate {
    /// The class at which the engine reports an error.
    pub(crate) const FAILS: usize = 2;
    /// The class at which the engine panics.
    pub(crate) const PANICS: usize = 3;

    pub(crate) fn closed() -> Self {
        Self::default()
    }

    pub(crate) fn opened() -> Self {
        let gate = Self::default();
        gate.open();
        gate
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    /// Returns once the engine has been given a batch.
    pub(crate) fn wait_until_entered(&self) {
        let record = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(record, |record| record.batches.is_empty()).unwrap());
    }

    pub(crate) fn batches(&self) -> Vec<usize> {
        self.0.0.lock().unwrap().batches.clone()
    }

    /// An engine whose image is its noise.
    pub(crate) fn engine(&self) -> impl Engine + use<> {
        Gated { gate: self.clone(), info: info() }
    }
}

struct Gated {
    gate: Gate,
    info: EngineInfo,
}

impl Engine for Gated {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
        let (record, changed) = &*self.gate.0;
        let mut record = record.lock().unwrap();
        record.batches.push(inputs.batch());
        changed.notify_all();
        drop(changed.wait_while(record, |record| !record.open).unwrap());
        assert!(!inputs.class.contains(&(Gate::PANICS as i64)), "a panic that the worker has to survive");
        if inputs.class.contains(&(Gate::FAILS as i64)) {
            return Err(EngineError::Run { engine: "test", problem: "asked to fail".to_owned() });
        }
        Ok(inputs.noise.clone())
    }
}
