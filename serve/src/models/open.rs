//! From files to models that are ready.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use super::name::{self, usual_name};
use super::{Models, Part};
use crate::engine::{self, Engine, EngineError, EngineSettings};
use crate::model::{Model, ModelError};
use crate::server::{ServeError, ServeSettings};

/// One of the models that a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSettings {
    /// What it is called in addresses; when left out, as its manifest says, else as its file.
    pub name: Option<String>,
    /// The file that `drifting export` wrote.
    pub path: PathBuf,
    /// The plan of TensorRT to run, in place of that of [`EngineSettings`].
    pub plan: Option<PathBuf>,
}

impl From<PathBuf> for ModelSettings {
    fn from(path: PathBuf) -> Self {
        Self { name: None, path, plan: None }
    }
}

/// Where a model comes from and how it is loaded, so that it can be had again.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) path: PathBuf,
    engine: EngineSettings,
    replicas: NonZeroUsize,
}

impl Origin {
    /// Threads are divided between replicas where their number is not given.
    fn new(model: &ModelSettings, settings: &ServeSettings) -> Self {
        let (replicas, mut engine) = (settings.replicas, settings.engine.clone());
        engine.plan = model.plan.clone().or(engine.plan);
        let share = engine.thread_count() / replicas;
        engine.threads = engine.threads.or(NonZeroUsize::new(share.max(1)));
        Self { path: model.path.clone(), engine, replicas }
    }

    pub(super) fn read(&self) -> Result<Model, ModelError> {
        Model::open(&self.path)
    }

    /// As many engines as there are replicas.
    pub(super) fn load(&self, model: &Model, notify: &dyn Fn(&str)) -> Result<Vec<Box<dyn Engine>>, EngineError> {
        (0..self.replicas.get()).map(|_| engine::open(model, &self.engine, notify)).collect()
    }
}

impl Models {
    /// Reads every model, then loads and warms one after the other.
    ///
    /// # Errors
    /// Names that are taken, a file or an engine that cannot be used.
    pub(crate) fn open(settings: &ServeSettings, notify: &dyn Fn(&str)) -> Result<Arc<Self>, ServeError> {
        let mut read = Vec::new();
        for model in &settings.models {
            let origin = Origin::new(model, settings);
            let file = origin.read()?;
            let name = model.name.clone().unwrap_or_else(|| usual_name(&file.manifest.name, &origin.path));
            read.push((name, file, origin));
        }
        name::check(&read.iter().map(|(name, _, origin)| (&name[..], Some(&origin.path))).collect::<Vec<_>>())?;
        let loaded = read.into_iter().map(|(name, model, origin)| {
            let engines = origin.load(&model, notify)?;
            Ok((Part { name, model, engines }, Some(origin)))
        });
        Self::start_all(loaded, settings.limits)
    }
}
