//! Hot swap: files are looked at again while what they held before goes on serving.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, Weak};
use std::thread;

use super::slot::Condition;
use super::{Models, Slot};
use crate::engine::EngineError;
use crate::metrics::Reloaded;
use crate::server::ServeError;
use crate::service::{Service, ServiceError};

/// How often a file is read anew that changes while it is read.
const ATTEMPTS: usize = 3;

/// Tells a server to look at the files of its models again.
#[derive(Clone, Debug)]
pub struct Reloader(Weak<Models>);

impl Reloader {
    /// Returns at once. On a thread of its own, every file that changed is read, loaded and warmed, and takes the place of
    /// what is being served; that still answers what it has taken. A file that cannot be used changes nothing but the
    /// model's error in `GET /models`.
    ///
    /// While one look is going on, any number of calls lead to one more.
    pub fn reload(&self) {
        let Some(models) = self.0.upgrade().filter(|models| !models.is_draining()) else { return };
        if !models.turn.lock().unwrap_or_else(PoisonError::into_inner).ask() {
            return;
        }
        let again = Arc::clone(&models);
        match thread::Builder::new().name("reload".to_owned()).spawn(move || again.reload()) {
            Ok(thread) => models.keep([thread]),
            Err(error) => {
                tracing::error!(%error, "cannot start a thread to reload models");
                *models.turn.lock().unwrap_or_else(PoisonError::into_inner) = Turn::Idle;
            }
        }
    }
}

/// Whether somebody looks at the files, and whether somebody will have to afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    #[default]
    Idle,
    Running,
    /// What changed since may have been read before it did.
    RunningAndAsked,
}

impl Turn {
    /// Somebody asks; whether that somebody has to begin.
    fn ask(&mut self) -> bool {
        let begins = *self == Self::Idle;
        *self = if begins { Self::Running } else { Self::RunningAndAsked };
        begins
    }

    /// A look is done; whether another one is due.
    fn finish(&mut self) -> bool {
        let again = *self == Self::RunningAndAsked;
        *self = if again { Self::Running } else { Self::Idle };
        again
    }
}

impl Models {
    /// What makes the server look at its models' files again.
    #[must_use]
    pub fn reloader(self: &Arc<Self>) -> Reloader {
        Reloader(Arc::downgrade(self))
    }

    fn reload(&self) {
        loop {
            for slot in self.slots() {
                if !self.is_draining() {
                    self.reload_slot(slot);
                }
            }
            if !self.turn.lock().unwrap_or_else(PoisonError::into_inner).finish() {
                return;
            }
        }
    }

    /// Looks at one model's file, and counts and tells what came of it.
    fn reload_slot(&self, slot: &Slot) {
        slot.condition().reloading = true;
        let result = catch_unwind(AssertUnwindSafe(|| self.renewed(slot)));
        let result = result
            .unwrap_or_else(|_| Err(EngineError::Settings("reading or loading the model panicked".to_owned()).into()));
        let mut condition = Condition::default();
        let counted = match result {
            Ok(None) => Reloaded::Unchanged,
            Ok(Some(service)) => {
                let (model, sha256, labels) = (&slot.name, service.model.sha256.clone(), service.labels());
                // A server that ends meanwhile does not begin with another model.
                if !slot.swap(service, || self.is_draining()) {
                    return;
                }
                tracing::info!(model, sha256, "serves from now on; the one before finishes what it has taken");
                slot.metrics.serves(labels);
                Reloaded::Swapped
            }
            Err(error) => {
                tracing::error!(model = slot.name, %error, "cannot be reloaded; the one before serves on");
                condition.error = Some(told(&error));
                Reloaded::Failed
            }
        };
        slot.metrics.reloaded(counted);
        *slot.condition() = condition;
    }

    /// The service of a slot's file, loaded and warm, if the file is another than the one that is being served.
    fn renewed(&self, slot: &Slot) -> Result<Option<Arc<Service>>, ServeError> {
        let Some(origin) = &slot.origin else { return Ok(None) };
        let mut attempt = 1;
        let (model, engines) = loop {
            let model = origin.read()?;
            if model.sha256 == slot.service().model.sha256 {
                return Ok(None);
            }
            match origin.load(&model, &|message| tracing::info!("{message}")) {
                Err(EngineError::Changed) if attempt < ATTEMPTS => attempt += 1,
                engines => break (model, engines?),
            }
        };
        let (service, threads) = Service::start(&model, engines, self.limits, (&slot.room, &slot.metrics))?;
        self.keep(threads);
        Ok(Some(service))
    }
}

/// An error as the clients of a server may read it: without the folders of its machine.
fn told(error: &ServeError) -> String {
    match error {
        ServeError::Model(error) => error.problem.to_string(),
        ServeError::Engine(
            error @ (EngineError::Changed
            | EngineError::Interface(_)
            | EngineError::NotFinite
            | EngineError::Settings(_)),
        )
        | ServeError::Service(ServiceError::Engine(error)) => error.to_string(),
        ServeError::Service(error) => error.to_string(),
        _ => "the engine cannot load the model; the server's log says why".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::engine::Engine;
    use crate::model::{Model, Source};
    use crate::models::Part;
    use crate::service::Limits;
    use crate::testing::{Gate, manifest};
    use crate::worker::Order;

    #[test]
    fn whoever_asks_during_a_look_gets_one_more_and_no_more_than_that() {
        let mut turn = Turn::default();
        assert!(turn.ask(), "the first one begins");
        assert!((0..5).all(|_| !turn.ask()), "the others leave it to that one");
        assert!(turn.finish(), "once more for all of them");
        assert!(!turn.finish() && turn == Turn::Idle);
        assert!(turn.ask() && !turn.finish(), "the next one begins anew");
    }
    /// A service of its own under the same name, with a thread that waits for `gate`.
    fn service(models: &Models, gate: &Gate, sha256: &str) -> Arc<Service> {
        let slot = models.default_slot();
        let engines: Vec<Box<dyn Engine>> = vec![Box::new(gate.engine())];
        let started = Service::start(&model(sha256), engines, models.limits, (&slot.room, &slot.metrics));
        let (service, threads) = started.unwrap();
        models.keep(threads);
        service
    }

    fn model(sha256: &str) -> Model {
        let (manifest, source) = (manifest(), Source::Bytes(Vec::new()));
        Model { manifest, source, size: 0, sha256: sha256.to_owned(), profile: None }
    }

    fn running(models: &Models) -> usize {
        models.threads.lock().unwrap().iter().filter(|thread| !thread.is_finished()).count()
    }

    #[test]
    fn what_is_swapped_out_finishes_what_it_has_taken_and_ends() {
        let (old, new) = (Gate::opened(), Gate::opened());
        let part = Part { name: "a".to_owned(), model: model("old"), engines: vec![Box::new(old.engine())] };
        let models = Models::start(vec![part], Limits::default()).unwrap();
        let slot = models.default_slot();
        old.close();
        let order = |seed| Order { class: 1, alpha: 1.5, seed, count: NonZeroUsize::MIN };
        let held = slot.service();
        let taken: Vec<_> = (0..3).map(|seed| held.worker.submit(order(seed)).unwrap()).collect();
        assert!(slot.swap(service(&models, &new, "new"), || false));
        assert_eq!((slot.service().model.sha256.as_str(), slot.room.busy(), running(&models)), ("new", 3, 2));
        // A request that began before the swap is still taken by what it began with.
        let late = held.worker.submit(order(9)).unwrap();
        drop(held);
        assert!(slot.service().worker.submit(order(4)).unwrap().blocking_recv().unwrap().is_ok());
        old.open();
        for answer in taken.into_iter().chain([late]) {
            assert!(answer.blocking_recv().unwrap().is_ok());
        }
        while running(&models) > 1 {
            thread::yield_now();
        }
        assert!(models.are_running() && slot.room.busy() == 0);
    }

    #[test]
    fn nothing_is_swapped_in_once_the_server_ends() {
        let gate = Gate::opened();
        let part = Part { name: "a".to_owned(), model: model("old"), engines: vec![Box::new(gate.engine())] };
        let models = Models::start(vec![part], Limits::default()).unwrap();
        let next = service(&models, &gate, "new");
        models.close();
        assert!(!models.default_slot().swap(next, || models.is_draining()));
        assert_eq!(models.default_slot().service().model.sha256, "old");
        while models.has_threads() {
            thread::yield_now();
        }
    }
}
