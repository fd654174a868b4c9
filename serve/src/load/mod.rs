//! A load for a server: what its HTTP interface does when many people ask.
//!
//! A **closed loop** has so many clients, each of which sends its next request when its last was answered. It finds the
//! most that a server can do, and flatters its latency: a server that stalls is not asked. An **open loop** sends
//! requests at a rate, whatever becomes of them, and counts their time from when each was due. It finds the latency that
//! people see who do not wait for each other.

mod answer;
mod arrivals;
mod client;
mod measure;
mod question;
mod record;
mod report;
mod times;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use client::Client;
use measure::Senders;
use question::Address;

pub use crate::statistics::Windows;
pub use arrivals::Arrivals;
pub use question::Question;
pub use report::{Failures, LoadPoint, LoadReport};
pub use times::Times;

/// Clients of a closed loop, and requests of an open one that are on their way, at most: each takes a connection.
const MOST_CLIENTS: usize = 10_000;
/// The highest rate of an open loop.
const MOST_REQUESTS_PER_SECOND: f64 = 100_000.0;
/// The longest time that can be given for anything: a day.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What a server has to bear.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "loop", rename_all = "lowercase")]
pub enum Load {
    /// Clients that wait for their answers.
    Closed {
        /// How many.
        clients: usize,
    },
    /// Requests that do not wait for answers.
    Open {
        /// Requests a second.
        rate: f64,
        /// How they follow each other.
        #[serde(serialize_with = "name")]
        arrivals: Arrivals,
    },
}

fn name<S: Serializer>(arrivals: &Arrivals, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(arrivals)
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { clients: 1 } => f.write_str("1 client"),
            Self::Closed { clients } => write!(f, "{clients} clients"),
            Self::Open { rate, arrivals } => write!(f, "{rate}/s {arrivals}"),
        }
    }
}

/// What is sent, and how long.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSettings {
    /// The server, as `host:port`, or the full address of its images.
    pub address: String,
    /// Headers of every request, by name and value.
    pub headers: Vec<(String, String)>,
    /// What the server has to bear, one after the other.
    pub loads: Vec<Load>,
    /// What is asked for.
    pub question: Question,
    /// Warm-up, windows and their number at most, for each load. Windows hold at least five requests and settle by their
    /// medians.
    pub windows: Windows,
    /// Time after which a request is given up.
    pub timeout: Duration,
    /// Requests of an open loop that may be on their way at a time; further ones wait, and their time counts.
    pub most_open: usize,
}

/// A load that cannot be made, and why.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Something cannot be sent.
    #[error("{0}")]
    Settings(String),
    /// There is no server.
    #[error("no server answers at {address}: {cause}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the operating system says.
        cause: String,
    },
    /// This machine cannot start the threads that send.
    #[error("cannot start threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// Where a measurement is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Measurements that are done, and all of them.
    pub done: (usize, usize),
    /// The one that runs.
    pub load: Load,
    /// Its windows so far; 0 while it warms up.
    pub window: usize,
    /// Requests a second that the last window answered.
    pub requests_per_second: f64,
    /// Median of their times in milliseconds; NaN where none was answered.
    pub median: f64,
}

/// Lets a server bear loads, one after the other; `told` hears what is being done. It blocks, and may not be called from
/// asynchronous code.
///
/// # Errors
/// Settings that cannot be sent; no server at the address. What goes wrong later is counted and reported.
pub fn load(settings: &LoadSettings, told: &mut dyn FnMut(&Progress)) -> Result<LoadReport, LoadError> {
    let address = Address::parse(&settings.address)?;
    check(settings)?;
    let headers = settings.headers.iter().map(header).collect::<Result<_, _>>()?;
    let LoadSettings { question, windows, timeout, .. } = settings;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let client = Client::new(address.clone(), headers, question.clone(), (*timeout, settings.most_open));
    let server = runtime.block_on(client.info());
    let unreachable = |cause| LoadError::Unreachable { address: address.images(), cause };
    let server = about(server.map_err(unreachable)?);
    let senders = Senders { runtime, client: Arc::new(client), timeout: *timeout, seed: question.seed };
    let mut points = Vec::new();
    for &load in &settings.loads {
        let done = (points.len(), settings.loads.len());
        let mut progress = Progress { done, load, window: 0, requests_per_second: 0.0, median: f64::NAN };
        told(&progress);
        let record = senders.measure(load, *windows, &mut |window| {
            progress.window += 1;
            (progress.requests_per_second, progress.median) = (window.rate(), window.median);
            told(&progress);
        });
        points.push(record.point(question.images));
    }
    let images = question.images;
    Ok(LoadReport { version: env!("CARGO_PKG_VERSION"), address: address.images(), server, images, points })
}

/// What a report keeps of what a server tells about itself.
fn about(info: Option<serde_json::Value>) -> serde_json::Value {
    let Some(info) = info.filter(serde_json::Value::is_object) else { return serde_json::Value::Null };
    let part = |pointer: &str| info.pointer(pointer).cloned().unwrap_or_default();
    let model = serde_json::json!({ "name": part("/model/manifest/name"), "sha256": part("/model/sha256") });
    serde_json::json!({ "model": model, "engine": part("/engine"), "limits": part("/limits") })
}

fn header((name, value): &(String, String)) -> Result<(HeaderName, HeaderValue), LoadError> {
    let wrong = || LoadError::Settings(format!("the header {name:?} has a name or a value that HTTP does not allow"));
    Ok((name.parse().map_err(|_| wrong())?, value.parse().map_err(|_| wrong())?))
}

fn check(settings: &LoadSettings) -> Result<(), LoadError> {
    let LoadSettings { loads, question, windows, timeout, most_open, .. } = settings;
    let clients = 1..=MOST_CLIENTS;
    let wrong_load = |load: &Load| match *load {
        Load::Closed { clients: count } => !clients.contains(&count),
        Load::Open { rate, .. } => !(rate > 0.0 && rate <= MOST_REQUESTS_PER_SECOND),
    };
    let problem = match loads.iter().find(|load| wrong_load(load)) {
        Some(Load::Closed { clients }) => format!("{clients} clients: 1 to {MOST_CLIENTS} can ask"),
        Some(Load::Open { rate, .. }) => {
            format!("a rate of {rate}: it has to be above 0 and at most {MOST_REQUESTS_PER_SECOND} requests a second")
        }
        None if loads.is_empty() => "no load: neither a number of clients nor a rate".to_owned(),
        None if question.classes.is_empty() => "no class to ask for".to_owned(),
        None if question.images == 0 => "0 images a request: 1 is the least".to_owned(),
        None if windows.length.is_zero() || timeout.is_zero() => {
            "a window and a timeout of 0 s hold nothing".to_owned()
        }
        None if [windows.warm_up, windows.length, *timeout].iter().any(|time| *time > LONGEST) => {
            "a time of more than a day".to_owned()
        }
        None if !clients.contains(most_open) => format!("{most_open} requests at a time: 1 to {MOST_CLIENTS} can be"),
        None => return Ok(()),
    };
    Err(LoadError::Settings(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> LoadSettings {
        LoadSettings {
            address: "localhost:1".to_owned(),
            headers: Vec::new(),
            loads: vec![Load::Closed { clients: 1 }],
            question: Question::default(),
            windows: Windows::default(),
            timeout: Duration::from_secs(1),
            most_open: 8,
        }
    }

    #[test]
    fn what_cannot_be_sent_is_told() {
        let refused = |settings: LoadSettings| check(&settings).unwrap_err().to_string();
        let open = |rate| Load::Open { rate, arrivals: Arrivals::Poisson };
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e6] {
            assert!(refused(LoadSettings { loads: vec![open(rate)], ..settings() }).contains("above 0"), "{rate}");
        }
        let none = LoadSettings { loads: vec![Load::Closed { clients: 0 }], ..settings() };
        assert_eq!(refused(none), "0 clients: 1 to 10000 can ask");
        assert!(refused(LoadSettings { loads: Vec::new(), ..settings() }).contains("no load"));
        assert!(refused(LoadSettings { timeout: Duration::MAX, ..settings() }).contains("a day"));
        assert!(refused(LoadSettings { most_open: 0, ..settings() }).contains("at a time"));
        assert!(check(&settings()).is_ok());
        let split = header(&("x-key".to_owned(), "a\r\nb".to_owned())).unwrap_err().to_string();
        assert!(split.contains("\"x-key\""), "{split}");
    }

    #[test]
    fn loads_are_named_as_people_say_them() {
        assert_eq!(Load::Closed { clients: 1 }.to_string(), "1 client");
        assert_eq!(Load::Open { rate: 2.5, arrivals: Arrivals::Constant }.to_string(), "2.5/s constant");
    }
}
