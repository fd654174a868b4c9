//! A named place for a model: what is in it may change while it is asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use super::Part;
use super::open::Origin;
use crate::metrics::ModelMetrics;
use crate::service::{Limits, Service, ServiceError};
use crate::worker::Room;

/// A model's name, the service behind it now, and what outlasts that.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    /// Room for its images, whichever service makes them.
    pub(crate) room: Room,
    pub(super) metrics: ModelMetrics,
    pub(super) origin: Option<Origin>,
    current: RwLock<Arc<Service>>,
    condition: Mutex<Condition>,
}

/// What is going on in a slot besides serving.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition {
    /// Whether its file is being read and loaded.
    pub(crate) reloading: bool,
    /// Why its file could not take the place of what is being served.
    pub(crate) error: Option<String>,
}

impl Slot {
    pub(super) fn start(
        part: Part,
        origin: Option<Origin>,
        limits: Limits,
        metrics: ModelMetrics,
    ) -> Result<(Self, Vec<JoinHandle<()>>), ServiceError> {
        let Part { name, model, engines } = part;
        let room = Room::new(limits.queue);
        let (service, threads) = Service::start(&model, engines, limits, (&room, &metrics))?;
        metrics.serves(service.labels());
        let (current, condition) = (RwLock::new(service), Mutex::default());
        Ok((Self { name, room, metrics, origin, current, condition }, threads))
    }

    /// The service to ask now. Whoever holds it is served by it to the end, whatever takes its place.
    pub(crate) fn service(&self) -> Arc<Service> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
