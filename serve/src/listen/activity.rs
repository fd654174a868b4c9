//! What a connection is doing, and until when it may go on with that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ConnectionLimits;

/// How long the rest of what a client sends is read and thrown away, once it was told to stop sending.
///
/// A connection that is closed while bytes are on their way is reset, and the client may never see its answer.
const LINGER: Duration = Duration::from_secs(2);

/// What the socket and the requests of one connection tell the one who looks after it.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Whether bytes outside of a request begin another one's head, which only HTTP/1 can say.
    heads: bool,
    /// Requests that have no answer yet, or one that is not written yet.
    requests: usize,
    /// Since when a request's head is awaited or read.
    head: Option<Instant>,
    /// When the last request ended or the last bytes were written.
    quiet: Instant,
    /// Since when the client has taken nothing of what is there for it.
    blocked: Option<Instant>,
    /// Since when there is nothing more to say.
    closed: Option<Instant>,
    /// Whether the server is about to stop.
    stopping: bool,
}

/// A request on its way: from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct Request(Activity);

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests = state.requests.saturating_sub(1);
        state.quiet = Instant::now();
    }
}

impl Activity {
    /// A new connection, whose first request is awaited. `heads` is true for HTTP/1.
    pub(super) fn new(heads: bool) -> Self {
        let now = Instant::now();
        let (head, quiet) = (Some(now), now);
        Self(Arc::new(Mutex::new(State {
            heads,
            requests: 0,
            head,
            quiet,
            blocked: None,
            closed: None,
            stopping: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's head is complete.
    pub(super) fn request(&self) -> Request {
        let mut state = self.state();
        state.requests += 1;
        state.head = None;
        Request(self.clone())
    }

    /// Bytes came.
    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.heads && state.requests == 0 && state.head.is_none() {
            state.head = Some(Instant::now());
        }
    }

    /// Bytes went, or (`taken` is false) could not.
    pub(super) fn wrote(&self, taken: bool) {
        let mut state = self.state();
        if taken {
            state.quiet = Instant::now();
            state.blocked = None;
        } else if state.blocked.is_none() {
            state.blocked = Some(Instant::now());
        }
    }

    /// Everything that was written is on its way.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        if state.blocked.take().is_some() {
            state.quiet = Instant::now();
        }
    }

    /// Everything was written, and the client knows it.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed.get_or_insert_with(Instant::now);
        state.blocked = None;
    }

    /// The server is about to stop: nobody's rest is waited for.
    pub(super) fn stop(&self) {
        self.state().stopping = true;
    }

    /// Whether what comes after the last answer is worth reading.
    pub(super) fn lingers(&self) -> bool {
        !self.state().stopping
    }

    /// When the connection has to be cut if nothing else happens. While the server makes an answer that is never: other
    /// limits watch over that.
    pub(super) fn deadline(&self, limits: &ConnectionLimits) -> Option<Instant> {
        let state = self.state();
        let (since, patience) = match *state {
            State { closed: Some(since), .. } => (since, LINGER),
            State { blocked: Some(since), .. } => (since, limits.client_timeout),
            State { requests: 1.., .. } => return None,
            State { head: Some(since), .. } => (since, limits.client_timeout),
            State { quiet, .. } => (quiet, limits.idle_timeout),
        };
        since.checked_add(patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits =
        ConnectionLimits { max: 1, client_timeout: Duration::from_secs(3), idle_timeout: Duration::from_secs(50) };

    /// Seconds until the connection is cut, as whole ones.
    fn patience(activity: &Activity) -> Option<u64> {
        Some(activity.deadline(&LIMITS)?.duration_since(Instant::now()).as_secs_f64().round() as u64)
    }

    #[test]
    fn a_head_has_its_time_however_its_bytes_come() {
        let activity = Activity::new(true);
        let first = activity.deadline(&LIMITS);
        assert_eq!(patience(&activity), Some(3));
        activity.read();
        assert_eq!(activity.deadline(&LIMITS), first);
        let request = activity.request();
        activity.read();
        assert_eq!(patience(&activity), None);
        drop(request);
        assert_eq!(patience(&activity), Some(50));
        activity.read();
        let second = activity.deadline(&LIMITS);
        assert_eq!(patience(&activity), Some(3));
        std::thread::sleep(Duration::from_millis(1));
        activity.read();
        assert_eq!(activity.deadline(&LIMITS), second);
    }

    #[test]
    fn frames_of_http2_begin_no_head() {
        let activity = Activity::new(false);
        assert_eq!(patience(&activity), Some(3));
        let (one, other) = (activity.request(), activity.request());
        drop(one);
        assert_eq!(patience(&activity), None);
        drop(other);
        activity.read();
        assert_eq!(patience(&activity), Some(50));
    }

    #[test]
    fn a_client_that_takes_nothing_is_not_waited_for() {
        let activity = Activity::new(true);
        let _request = activity.request();
        activity.wrote(false);
        let first = activity.deadline(&LIMITS);
        assert_eq!(patience(&activity), Some(3));
        std::thread::sleep(Duration::from_millis(1));
        activity.wrote(false);
        assert_eq!(activity.deadline(&LIMITS), first);
        activity.wrote(true);
        assert_eq!(patience(&activity), None);
        activity.wrote(false);
        activity.flushed();
        assert_eq!(patience(&activity), None);
        activity.close();
        assert_eq!(patience(&activity), Some(2));
        assert!(activity.lingers());
        activity.stop();
        assert!(!activity.lingers());
    }
}
