//! One measurement: sends what is due, until the record has enough.
//!
//! The calling thread keeps the time, since its clock is finer than the milliseconds of the threads that send.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::answer::{Outcome, Sample};
use super::arrivals::Schedule;
use super::client::Client;
use super::record::{Record, Window};
use super::{Load, Windows};

/// How long a client of a closed loop waits after an answer without images, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(10);
/// What threads may take beyond a request's own time.
const GRACE: Duration = Duration::from_secs(1);

/// A request that has ended, and what there is to say about an error.
type Ended = (Sample, Option<String>);

/// The threads that send, and what they send.
pub(super) struct Senders {
    pub(super) runtime: Runtime,
    pub(super) client: Arc<Client>,
    /// After this time every request has ended.
    pub(super) timeout: Duration,
    /// Gives random arrivals.
    pub(super) seed: u64,
}

impl Senders {
    /// Lets the server bear `load`; `told` hears of every window.
    pub(super) fn measure(&self, load: Load, windows: Windows, told: &mut dyn FnMut(&Window)) -> Record {
        let mut record = Record::new(load, windows);
        let (sender, ended) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let mut schedule = match load {
            Load::Closed { clients } => {
                for _ in 0..clients {
                    self.runtime.spawn(ask_again(self.client.clone(), start, sender.clone(), stop.clone()));
                }
                None
            }
            Load::Open { rate, arrivals } => Some(Schedule::new(arrivals, rate, self.seed).peekable()),
        };
        while !record.finished() {
            let now = start.elapsed();
            let mut next = record.next(now);
            if let Some(schedule) = &mut schedule {
                while let Some(due) = schedule.next_if(|due| *due <= now) {
                    self.send(start, due, sender.clone());
                }
                next = schedule.peek().map_or(next, |due| next.min(*due));
            }
            match ended.recv_timeout(next.saturating_sub(start.elapsed())) {
                Ok(request) => record.take(request),
                // The sender above is alive, so this is a timeout.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if let Some(window) = record.advance(start.elapsed()) {
                told(&window);
            }
        }
        stop.store(true, Ordering::Relaxed);
        drop(sender);
        // Each request holds a sender; the channel ends with the last of them.
        while let Ok(request) = ended.recv_timeout(self.timeout + GRACE) {
            record.take(request);
        }
        record
    }

    fn send(&self, start: Instant, due: Duration, ended: Sender<Ended>) {
        let client = self.client.clone();
        self.runtime.spawn(async move {
            // The receiver is gone once the measurement was given up.
            let _ = ended.send(client.ask_in_turn(start, due).await);
        });
    }
}

/// A client of a closed loop: its next request follows the answer to the last.
async fn ask_again(client: Arc<Client>, start: Instant, ended: Sender<Ended>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let request = client.ask(start, start.elapsed()).await;
        let answered = matches!(request.0.outcome, Outcome::Answered(_));
        if ended.send(request).is_err() {
            return;
        }
        if !answered {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
