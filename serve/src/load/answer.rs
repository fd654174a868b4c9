//! What became of a request.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};

/// A request that has ended; times are counted from the start of the measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// When it was due. In a closed loop that is when it was sent.
    pub(super) due: Duration,
    /// When it was sent.
    pub(super) sent: Duration,
    /// When its answer had been read to the end.
    pub(super) done: Duration,
    pub(super) outcome: Outcome,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    /// With images.
    Answered(Told),
    /// With 429: the server's queue is full.
    Refused,
    /// In any other way.
    Failed(Failure),
}

/// What the headers of an answer tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// `x-queue-ms`
    pub(super) queue: Option<f64>,
    /// `x-compute-ms`
    pub(super) compute: Option<f64>,
    /// `x-batch-size`
    pub(super) batch: Option<f64>,
}

impl Told {
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let number = |name: &str| {
            let number: f64 = headers.get(name)?.to_str().ok()?.parse().ok()?;
            Some(number).filter(|number| number.is_finite() && *number >= 0.0)
        };
        Self { queue: number("x-queue-ms"), compute: number("x-compute-ms"), batch: number("x-batch-size") }
    }
}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// No connection could be made.
    Connect,
    /// The connection ended before the answer, or what came is not HTTP.
    Broken,
    /// No full answer in time.
    Timeout,
    /// Another status than 200 and 429.
    Status(u16),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Broken => f.write_str("broken"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => write!(f, "status {status}"),
        }
    }
}

/// What a status and its headers mean.
pub(super) fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status {
        StatusCode::OK => Outcome::Answered(Told::from_headers(headers)),
        StatusCode::TOO_MANY_REQUESTS => Outcome::Refused,
        other => Outcome::Failed(Failure::Status(other.as_u16())),
    }
}

/// What the body of an error says: its message, if it is one of ours, else its beginning.
pub(super) fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let ours = json.as_ref().and_then(|json| json["error"]["message"].as_str());
    let text = ours.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(printable).take(200).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn refusals_are_no_errors() {
        let outcome = |status: u16| outcome(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        assert_eq!(outcome(429), Outcome::Refused);
        assert_eq!(outcome(500), Outcome::Failed(Failure::Status(500)));
        assert_eq!(outcome(204), Outcome::Failed(Failure::Status(204)));
        assert_eq!(outcome(200), Outcome::Answered(Told::default()));
    }

    #[test]
    fn headers_are_numbers_or_nothing() {
        let header = |text| HeaderMap::from_iter([("x-queue-ms".parse().unwrap(), HeaderValue::from_static(text))]);
        assert_eq!(Told::from_headers(&header("1.25")).queue, Some(1.25));
        assert!(["NaN", "-1", "inf", "soon"].iter().all(|text| Told::from_headers(&header(text)).queue.is_none()));
    }

    #[test]
    fn errors_say_what_the_server_says() {
        assert_eq!(message(br#"{"error": {"message": "no class 12"}}"#), "no class 12");
        assert_eq!(message(b"Bad\r\nGateway\n"), "Bad  Gateway");
        assert_eq!(message(&[0xff; 3]).chars().count(), 3);
        assert_eq!(message(&b"x".repeat(9999)).len(), 200);
    }
}
