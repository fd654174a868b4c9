//! An order on its way to its answer.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Answer, Made, Order};
use crate::engine::EngineError;

/// An order that was admitted. Several engines may work at it, each at other images of it.
pub(super) struct Job {
    pub(super) order: Order,
    admitted: Instant,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Who waits for the answer, and the room that the order takes until then; gone once it was answered.
    open: Option<(oneshot::Sender<Answer>, OwnedSemaphorePermit)>,
    made: Made,
    begun: bool,
    /// Images that are done.
    done: usize,
}

/// Images `first..first + count` of a job, which one engine computes.
pub(super) struct Share {
    pub(super) job: Arc<Job>,
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Job {
    pub(super) fn new(order: Order, answer: oneshot::Sender<Answer>, room: OwnedSemaphorePermit) -> Self {
        let progress = Progress { open: Some((answer, room)), made: Made::default(), begun: false, done: 0 };
        Self { order, admitted: Instant::now(), progress: Mutex::new(progress) }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits for it any more: its client left, its time is up, or a part of it failed.
    pub(super) fn is_over(&self) -> bool {
        self.progress().open.as_ref().is_none_or(|(answer, _)| answer.is_closed())
    }

    /// An engine begins with a part of it.
    pub(super) fn begin(&self, now: Instant) {
        let mut progress = self.progress();
        if !progress.begun {
            progress.begun = true;
            progress.made.queue = now.saturating_duration_since(self.admitted);
        }
    }

    /// An engine gives up a part of it, and with it the whole order.
    pub(super) fn fail(&self, error: EngineError) {
        if let Some((answer, room)) = self.progress().open.take() {
            // Whoever gets the answer finds the room that it took.
            drop(room);
            let _ = answer.send(Err(Arc::new(error)));
        }
    }
}

impl Share {
    /// The images have these `values`; they were computed in a batch of `size`. Answers the order if they were the last
    /// ones.
    pub(super) fn deliver(&self, values: Cow<'_, [f32]>, size: usize, elapsed: Duration) {
        let (count, image_len) = (self.job.order.count.get(), values.len() / self.count);
        let mut progress = self.job.progress();
        let Progress { made, done, .. } = &mut *progress;
        if self.count == count {
            made.values = values.into_owned();
        } else {
            made.values.resize(count * image_len, 0.0);
            let place = made.values.get_mut(self.first * image_len..).and_then(|rest| rest.get_mut(..values.len()));
            place.into_iter().for_each(|place| place.copy_from_slice(&values));
        }
        made.compute += elapsed;
        made.batch = made.batch.max(size);
        *done += self.count;
        if *done == count
            && let Some((answer, room)) = progress.open.take()
        {
            drop(room);
            let _ = answer.send(Ok(std::mem::take(&mut progress.made)));
        }
    }
}
