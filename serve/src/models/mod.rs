//! The models of one server and what they share: the state behind every route.

mod name;
mod open;
mod slot;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::service::{Limits, ServiceError};

pub use name::{NameError, is_model_name};
pub use open::ModelSettings;
pub(crate) use slot::Slot;

/// A model with a name and what computes it.
pub struct Part {
    /// What it is called in addresses; see [`is_model_name`].
    pub name: String,
    /// The model.
    pub model: Model,
    /// The model, loaded as often as it may run at a time.
    pub engines: Vec<Box<dyn Engine>>,
}

/// The models of one server, its limits, its metrics, and whether it is about to stop.
#[derive(Debug)]
pub struct Models {
    first: Slot,
    others: Vec<Slot>,
    /// What one model does at most.
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    draining: AtomicBool,
    /// Threads that must end before the process does.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Models {
    /// Warms the engines up and gives each its thread. The first model is the one that is asked when none is named.
    ///
    /// # Errors
    /// No model, two of one name, limits that contradict each other, and what [`ServiceError`] says of a model.
    pub fn start(parts: Vec<Part>, limits: Limits) -> Result<Arc<Self>, ServiceError> {
        name::check(&parts.iter().map(|part| (&part.name[..], None)).collect::<Vec<_>>())?;
        Self::start_all(parts.into_iter().map(|part| Ok((part, None))), limits)
    }

    /// As [`Models::start`], of parts that are made one after the other and whose names were checked.
    fn start_all<E: From<ServiceError>>(
        parts: impl IntoIterator<Item = Result<(Part, Option<open::Origin>), E>>,
        limits: Limits,
    ) -> Result<Arc<Self>, E> {
        limits.check().map_err(ServiceError::Limits)?;
        let metrics = Metrics::new();
        let (mut slots, mut threads) = (Vec::new(), Vec::new());
        for part in parts {
            let (part, origin) = part?;
            let of_model = metrics.model(&part.name);
            let (slot, started) = Slot::start(part, origin, limits, of_model)?;
            slots.push(slot);
            threads.extend(started);
        }
        let mut slots = slots.into_iter();
        let first = slots.next().ok_or(ServiceError::Name(NameError::None))?;
        let (others, draining, threads) = (slots.collect(), AtomicBool::new(false), Mutex::new(threads));
        Ok(Arc::new(Self { first, others, limits, metrics, draining, threads }))
    }

    /// The model that is asked when none is named.
    pub(crate) fn default_slot(&self) -> &Slot {
        &self.first
    }

    /// All models, the default one first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The model of this name.
    pub(crate) fn slot(&self, name: &str) -> Option<&Slot> {
        self.slots().find(|slot| slot.name == name)
    }

    /// Images that wait or are being computed, over all models.
    pub(crate) fn busy(&self) -> usize {
        self.slots().map(|slot| slot.room.busy()).sum()
    }

    /// Whether every model has an engine that works.
    pub(crate) fn are_running(&self) -> bool {
        self.slots().all(|slot| slot.service().worker.is_running())
    }

    /// Everything that is counted, in Prometheus' text format.
    ///
    /// # Errors
    /// None that a text can have.
    pub(crate) fn metrics_text(&self) -> Result<String, fmt::Error> {
        for slot in self.slots() {
            slot.metrics.waiting(slot.room.busy());
        }
        self.metrics.text()
    }

    /// Refuses new images from now on; those that were taken are finished.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Lets every engine's thread end once it has finished what it has taken.
    pub(crate) fn close(&self) {
        self.drain();
        for slot in self.slots() {
            slot.service().worker.close();
        }
    }

    /// Whether a thread runs that must not outlive the process.
    pub(crate) fn has_threads(&self) -> bool {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.iter().any(|thread| !thread.is_finished())
    }
}
