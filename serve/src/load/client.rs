//! An HTTP client that measures: one request, read to its end, in a given time.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client as Connections;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::answer::{Failure, Outcome, Sample, message, outcome};
use super::question::{Address, Question};

/// Bytes of an error's body that are kept.
const KEPT: usize = 4096;
/// Bytes of what a server tells about itself that are kept.
const KEPT_INFO: usize = 1 << 20;

/// Requests of one measurement.
pub(super) struct Client {
    connections: Connections<HttpConnector, Empty<Bytes>>,
    address: Address,
    headers: Vec<(HeaderName, HeaderValue)>,
    question: Question,
    timeout: Duration,
    /// Requests of an open loop that may be on their way at a time.
    open: Semaphore,
    next: AtomicU64,
}

/// Why there is no answer, for people.
struct Problem {
    kind: Failure,
    note: String,
}

impl Client {
    /// A request is given up after `limits.0`, and in an open loop `limits.1` of them may be on their way.
    pub(super) fn new(
        address: Address,
        headers: Vec<(HeaderName, HeaderValue)>,
        question: Question,
        limits: (Duration, usize),
    ) -> Self {
        let mut connector = HttpConnector::new();
        // A request must not wait for the acknowledgement of the one before.
        connector.set_nodelay(true);
        let connections = Connections::builder(TokioExecutor::new()).build(connector);
        let open = Semaphore::new(limits.1);
        Self { connections, address, headers, question, timeout: limits.0, open, next: AtomicU64::new(0) }
    }

    /// What the server tells about itself; none where it does not.
    ///
    /// # Errors
    /// There is no server.
    pub(super) async fn info(&self) -> Result<Option<serde_json::Value>, String> {
        let until = Instant::now() + self.timeout;
        match self.exchange(Method::GET, self.address.info(), (until, KEPT_INFO)).await {
            Ok((StatusCode::OK, _, body)) => Ok(serde_json::from_slice(&body).ok()),
            Err(Problem { kind: Failure::Connect, note }) => Err(note),
            _ => Ok(None),
        }
    }

    /// Sends the next request, which is due at `due`, and reads its answer; times count from `start`. Beside the sample: what
    /// there is to say about an error.
    pub(super) async fn ask(&self, start: Instant, due: Duration) -> (Sample, Option<String>) {
        let until = start + due + self.timeout;
        let address =
            format!("{}?{}", self.address.images(), self.question.query(self.next.fetch_add(1, Ordering::Relaxed)));
        let sent = start.elapsed();
        let answer = self.exchange(Method::POST, address, (until, KEPT)).await;
        let done = start.elapsed();
        let (outcome, note) = match answer {
            Ok((_, outcome @ Outcome::Failed(_), body)) => (outcome, Some(message(&body))),
            Ok((_, outcome, _)) => (outcome, None),
            Err(Problem { kind, note }) => (Outcome::Failed(kind), Some(note)),
        };
        (Sample { due, sent, done, outcome }, note)
    }

    /// Like [`Client::ask`], once fewer requests than allowed are on their way; this wait counts.
    pub(super) async fn ask_in_turn(&self, start: Instant, due: Duration) -> (Sample, Option<String>) {
        match timeout_at((start + due + self.timeout).into(), self.open.acquire()).await {
            Ok(_permit) => self.ask(start, due).await,
            Err(_) => {
                let done = start.elapsed();
                let outcome = Outcome::Failed(Failure::Timeout);
                (Sample { due, sent: done, done, outcome }, Some("never sent: too many were on their way".to_owned()))
            }
        }
    }

    /// One request until `limits.0`, of whose answer the first `limits.1` bytes are kept.
    async fn exchange(
        &self,
        method: Method,
        address: String,
        limits: (Instant, usize),
    ) -> Result<(StatusCode, Outcome, Vec<u8>), Problem> {
        let uri: Uri = address.parse().map_err(|error| broken(&error))?;
        let mut request = Request::new(Empty::new());
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
        request.headers_mut().extend(self.headers.iter().cloned());
        let exchange = async {
            let response = self.connections.request(request).await.map_err(|error| {
                let kind = if error.is_connect() { Failure::Connect } else { Failure::Broken };
                Problem { kind, ..broken(&error) }
            })?;
            let (head, mut body) = response.into_parts();
            let mut kept = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| broken(&error))?;
                let data = frame.data_ref().map(|data| &data[..]).unwrap_or_default();
                let room = limits.1.saturating_sub(kept.len()).min(data.len());
                kept.extend_from_slice(&data[..room]);
            }
            Ok((head.status, outcome(head.status, &head.headers), kept))
        };
        timeout_at(limits.0.into(), exchange).await.unwrap_or_else(|_| {
            let note = format!("no answer within {} s", self.timeout.as_secs_f64());
            Err(Problem { kind: Failure::Timeout, note })
        })
    }
}

/// An error with the last of its causes, which is what the operating system says.
fn broken(error: &dyn Error) -> Problem {
    let mut note = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        note = error.to_string();
        cause = error.source();
    }
    Problem { kind: Failure::Broken, note }
}
