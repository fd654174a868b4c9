//! The queue that all engines of a model share.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Refusal;
use super::job::{Job, Share};

/// Jobs in the order in which they came. Whoever is free takes what waits.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    closed: bool,
    hands: usize,
}

/// A job of which images from number `next` on wait.
struct Waiting {
    job: Arc<Job>,
    next: usize,
}

impl Waiting {
    /// Images that no engine has taken yet.
    fn left(&self) -> usize {
        self.job.order.count.get() - self.next
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job at the end; drops it where nobody is left to take it.
    ///
    /// # Errors
    /// [`Refusal::Stopped`].
    pub(super) fn push(&self, job: Job) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.closed || state.hands == 0 {
            return Err(Refusal::Stopped);
        }
        state.waiting.push_back(Waiting { job: Arc::new(job), next: 0 });
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the first images that wait, as many as the largest of `sizes` (ascending, 1 first) that they fill; waits
    /// while there are none. Nothing once the queue is closed and empty.
    pub(super) fn take(&self, sizes: &[usize]) -> Option<Vec<Share>> {
        let mut state = self.state();
        loop {
            state.waiting.retain(|waiting| !waiting.job.is_over());
            let images = state.waiting.iter().map(Waiting::left).sum();
            if let Some(&size) = sizes.iter().rfind(|&&size| size <= images) {
                let shares = first_images(&mut state.waiting, size);
                if !state.waiting.is_empty() {
                    self.changed.notify_one();
                }
                return Some(shares);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Forgets what nobody waits for, and with it the room that it takes.
    pub(super) fn tidy(&self) {
        self.state().waiting.retain(|waiting| !waiting.job.is_over());
    }

    /// Takes no jobs any more; those that wait are still taken from it.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// How many take jobs.
    pub(super) fn hands(&self) -> usize {
        self.state().hands
    }

    /// One more takes jobs, for as long as the ticket lives.
    pub(super) fn join(self: &Arc<Self>) -> Ticket {
        self.state().hands += 1;
        Ticket(Arc::clone(self))
    }
}

/// Somebody who takes jobs from a queue.
pub(super) struct Ticket(pub(super) Arc<Queue>);

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.hands -= 1;
        if state.hands == 0 {
            // Only where the last thread died: those who wait must not wait for ever.
            state.waiting.clear();
        }
    }
}

fn first_images(waiting: &mut VecDeque<Waiting>, size: usize) -> Vec<Share> {
    let (mut shares, mut missing) = (Vec::new(), size);
    while missing > 0
        && let Some(front) = waiting.front_mut()
    {
        let count = missing.min(front.left());
        shares.push(Share { job: Arc::clone(&front.job), first: front.next, count });
        front.next += count;
        missing -= count;
        if front.left() == 0 {
            waiting.pop_front();
        }
    }
    shares
}
