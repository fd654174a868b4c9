//! Work that is done ahead by other threads and handed out in order.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{DataError, Result};

/// What makes the parts: a function of their number.
type Make<T> = dyn Fn(u64) -> Result<T> + Send + Sync;

/// Parts 0, 1, 2, ... of endless work. Each is a function of its number alone, so what comes out does not depend on the
/// threads, only how long it takes.
pub struct Ahead<T> {
    make: Arc<Make<T>>,
    shared: Option<Arc<Shared<T>>>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something was made, or there is something to do.
    changed: Condvar,
    ahead: u64,
}

struct State<T> {
    /// The next part to be made.
    next: u64,
    /// The part that is waited for.
    wanted: u64,
    /// Finished parts.
    ready: BTreeMap<u64, Result<T>>,
    /// Grows when the order is broken; what was begun before is thrown away.
    round: u64,
    stop: bool,
}

impl<T> fmt::Debug for Ahead<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ahead").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Ahead<T> {
    /// Parts made by `workers` threads, at most `ahead` of them finished or begun beyond the one that was asked for. Without
    /// workers, or where threads cannot be started, each part is made when it is asked for.
    pub fn new(workers: usize, ahead: usize, make: impl Fn(u64) -> Result<T> + Send + Sync + 'static) -> Self {
        let make: Arc<Make<T>> = Arc::new(make);
        if workers == 0 {
            return Self { make, shared: None, workers: Vec::new() };
        }
        // Nothing is wanted before the first question.
        let state = State { next: 0, wanted: 0, ready: BTreeMap::new(), round: 0, stop: false };
        let shared = Shared { state: Mutex::new(state), changed: Condvar::new(), ahead: ahead.max(1) as u64 };
        let shared = Arc::new(shared);
        let start = |number: usize| {
            let (make, shared) = (Arc::clone(&make), Arc::clone(&shared));
            let name = format!("data-{number}");
            std::thread::Builder::new().name(name).spawn(move || shared.work(make.as_ref())).ok()
        };
        let workers: Vec<_> = (0..workers).filter_map(start).collect();
        let shared = (!workers.is_empty()).then_some(shared);
        Self { make, shared, workers }
    }

    /// Part `number`. Fastest when the parts are asked for in order; any other order is right, too.
    ///
    /// # Errors
    /// Those of making it.
    pub fn take(&mut self, number: u64) -> Result<T> {
        let Some(shared) = &self.shared else { return (self.make)(number) };
        let mut state = shared.lock();
        if number != state.wanted {
            state.ready.clear();
            (state.next, state.round) = (number, state.round + 1);
        }
        state.wanted = number;
        shared.changed.notify_all();
        loop {
            if let Some(part) = state.ready.remove(&number) {
                state.wanted = number + 1;
                shared.changed.notify_all();
                return part;
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker does until it is told to stop.
    fn work(&self, make: &Make<T>) {
        let mut state = self.lock();
        loop {
            if state.stop {
                return;
            }
            if state.next >= state.wanted.saturating_add(self.ahead) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (number, round) = (state.next, state.round);
            state.next += 1;
            drop(state);
            // Whoever waits for a part must get an answer.
            let part = catch_unwind(AssertUnwindSafe(|| make(number)));
            let part = part.unwrap_or_else(|_| Err(DataError::Inconsistent(format!("reading part {number} failed"))));
            state = self.lock();
            if state.round == round {
                state.ready.insert(number, part);
                self.changed.notify_all();
            }
        }
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().stop = true;
            shared.changed.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches its panics: there is nothing to learn from its end.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    /// Parts that take longest where they are asked for first.
    fn uneven(number: u64) -> Result<u64> {
        std::thread::sleep(Duration::from_micros((number * 7919) % 500));
        Ok(number * number)
    }

    #[test]
    fn parts_come_in_order_with_any_number_of_threads() {
        for (workers, ahead) in [(0, 4), (1, 1), (3, 2), (8, 20)] {
            let mut parts = Ahead::new(workers, ahead, uneven);
            let found: Vec<u64> = (5..80).map(|number| parts.take(number).unwrap()).collect();
            assert_eq!(found, (5..80).map(|number| number * number).collect::<Vec<_>>());
            for number in [3, 80, 80, 7, 8] {
                assert_eq!(parts.take(number).unwrap(), number * number);
            }
        }
    }

    #[test]
    fn no_more_than_allowed_is_made_ahead() {
        let made = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&made);
        let mut parts = Ahead::new(2, 3, move |number| {
            count.fetch_max(number + 1, Ordering::Relaxed);
            Ok(number)
        });
        for number in 0..10 {
            parts.take(number).unwrap();
            std::thread::sleep(Duration::from_millis(3));
            assert!(made.load(Ordering::Relaxed) <= number + 1 + 3);
        }
        assert_eq!(made.load(Ordering::Relaxed), 13);
    }

    #[test]
    fn errors_and_panics_reach_who_asks_and_work_goes_on() {
        let mut parts = Ahead::new(2, 4, |number| match number {
            2 => Err(DataError::Inconsistent("two".into())),
            4 => panic!("four"),
            _ => Ok(number),
        });
        let found: Vec<_> = (0..6).map(|number| parts.take(number).map_err(|error| error.to_string())).collect();
        assert_eq!(found[2], Err("data set: two".into()));
        assert_eq!(found[4], Err("data set: reading part 4 failed".into()));
        assert_eq!((&found[3], &found[5]), (&Ok(3), &Ok(5)));
    }

    #[test]
    fn it_ends_while_work_is_under_way() {
        for _ in 0..20 {
            let mut parts = Ahead::new(4, 8, uneven);
            parts.take(1).unwrap();
        }
        drop(Ahead::new(3, 2, uneven));
    }
}
