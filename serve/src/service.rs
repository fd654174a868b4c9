//! A loaded model that answers requests.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use drifting_spec::{ImageShape, Manifest, ManifestError};
use serde::Serialize;

use crate::engine::{Engine, EngineError, EngineInfo};
use crate::metrics::ModelMetrics;
use crate::model::Model;
use crate::models::NameError;
use crate::warmup;
use crate::worker::{Room, Worker, WorkerSettings};

/// Numbers in one image above which a model is refused: an 8192 x 8192 grey image.
const MAX_IMAGE_LEN: usize = 1 << 26;

/// What one model of a server does at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Images that one request may ask for.
    pub max_images: usize,
    /// Images that the engine computes at once.
    pub max_batch: usize,
    /// Whether only batch sizes are used that leave every image bit for bit as it is alone, so that a seed gives the
    /// same bytes whoever shares its batch.
    pub exact: bool,
    /// Images that may wait or be computed at a time, over all requests.
    pub queue: usize,
    /// Bytes of a request's body that are read before it is refused.
    pub max_body: usize,
    /// After this time a request is given up.
    pub request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let request_timeout = Duration::from_secs(60);
        Self { max_images: 64, max_batch: 8, exact: true, queue: 256, max_body: 16 << 10, request_timeout }
    }
}

impl Limits {
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { max_images, max_batch, queue, request_timeout, .. } = *self;
        match () {
            () if max_images == 0 => Err("max_images is 0; 1 is the least".to_owned()),
            () if !(1..=1024).contains(&max_batch) => Err(format!("max_batch is {max_batch}, not between 1 and 1024")),
            () if queue < max_images => Err(format!(
                "queue is {queue}, less than the {max_images} images of one request, which could then never be served"
            )),
            () if queue > u32::MAX as usize => Err(format!("queue is {queue}, more than {}", u32::MAX)),
            () if request_timeout.is_zero() => Err("request_timeout is 0".to_owned()),
            () => Ok(()),
        }
    }
}

/// A model that cannot be served, and why.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The models' names cannot tell them apart.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The limits contradict each other.
    #[error("limits: {0}")]
    Limits(String),
    /// The model's output is no image.
    #[error(
        "the model makes {0} channels; 1 (grey) and 3 (colour) can be served, latents need their decoder in the file: \
         `drifting export RUN --decoder FOLDER`"
    )]
    Channels(usize),
    /// The model's images are too large.
    #[error("the model makes images of {0} numbers; {MAX_IMAGE_LEN} can be served")]
    Size(usize),
    /// The manifest contradicts itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The engine fails at the first image.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// There is nothing that computes.
    #[error("there is no engine to serve the model with")]
    NoEngine,
    /// Two engines of one model do not make the same image.
    #[error(
        "replica {0} does not make bit for bit the images of the first: run one replica, or give that promise up with \
         --fast-batches"
    )]
    Replicas(usize),
    /// The operating system refuses an engine's thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}

/// What `/info` tells about the model file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ModelCard {
    pub(crate) sha256: String,
    pub(crate) bytes: usize,
    pub(crate) manifest: Manifest,
}

/// A loaded model, its engines' threads and the limits of its use.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) model: ModelCard,
    /// Shape of the images.
    pub(crate) image: ImageShape,
    /// The engine in use; its replicas are alike.
    pub(crate) engine: EngineInfo,
    pub(crate) replicas: usize,
    pub(crate) limits: Limits,
    pub(crate) batch_sizes: Vec<usize>,
    pub(crate) worker: Worker,
    pub(crate) metrics: ModelMetrics,
}

impl Service {
    /// Warms `engines` up and gives each its thread; they end once the service is dropped.
    ///
    /// # Errors
    /// A model whose output is no image, an engine that fails at the first one, engines that do not agree.
    pub(crate) fn start(
        model: &Model,
        mut engines: Vec<Box<dyn Engine>>,
        limits: Limits,
        (room, metrics): (&Room, &ModelMetrics),
    ) -> Result<(Arc<Self>, Vec<JoinHandle<()>>), ServiceError> {
        let manifest = &model.manifest;
        let image = manifest.image().map_err(ManifestError::from)?;
        if !matches!(image.channels, 1 | 3) {
            return Err(ServiceError::Channels(image.channels));
        }
        if image.len() > MAX_IMAGE_LEN {
            return Err(ServiceError::Size(image.len()));
        }
        let batch_sizes = warmup::batch_sizes(&mut engines, manifest, &limits)?;
        let engine = engines.first().map(|engine| engine.info().clone()).ok_or(ServiceError::NoEngine)?;
        let replicas = engines.len();
        let model = ModelCard { sha256: model.sha256.clone(), bytes: model.size as usize, manifest: manifest.clone() };
        let settings = WorkerSettings {
            batch_sizes: batch_sizes.clone(),
            image_len: image.len(),
            room: room.clone(),
            metrics: metrics.clone(),
        };
        let (worker, threads) = Worker::start(engines, &manifest.generator, &settings).map_err(ServiceError::Thread)?;
        let metrics = metrics.clone();
        Ok((Arc::new(Self { model, image, engine, replicas, limits, batch_sizes, worker, metrics }), threads))
    }

    /// What `drift_model_info` tells.
    pub(crate) fn labels(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name", self.model.manifest.name.clone()),
            ("sha256", self.model.sha256.clone()),
            ("engine", self.engine.name.to_owned()),
            ("engine_version", self.engine.version.clone()),
            ("provider", self.engine.provider.to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;
    use crate::models::{Models, Part};
    use crate::testing::{Gate, manifest};

    fn start(channels: usize, limits: Limits) -> Result<Vec<usize>, String> {
        let mut manifest = manifest();
        manifest.generator.image.channels = channels;
        let (source, sha256) = (Source::Bytes(Vec::new()), String::new());
        let model = Model { manifest, source, size: 0, sha256, profile: None };
        let part = Part { name: "a".to_owned(), model, engines: vec![Box::new(Gate::opened().engine())] };
        let started = Models::start(vec![part], limits);
        started.map(|models| models.default_slot().service().batch_sizes.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_served_is_refused_at_the_start() {
        assert_eq!(start(1, Limits::default()).unwrap(), [1, 2, 4, 8]);
        assert!(start(4, Limits::default()).unwrap_err().contains("4 channels"));
        let refused = |limits| start(1, limits).unwrap_err();
        assert!(refused(Limits { max_images: 0, ..Limits::default() }).contains("max_images"));
        assert!(refused(Limits { max_batch: 0, ..Limits::default() }).contains("max_batch"));
        assert!(refused(Limits { queue: 63, ..Limits::default() }).contains("queue is 63"));
        assert!(refused(Limits { request_timeout: Duration::ZERO, ..Limits::default() }).contains("request_timeout"));
    }
}
