//! What a load did to a server, as a table, as CSV and as JSON.

use std::fmt;

use serde::Serialize;

use super::{Load, Times};
use crate::table::aligned;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// Version of this program.
    pub version: &'static str,
    /// Where the images were asked for.
    pub address: String,
    /// Model and engine, as the server tells about them (`GET /info`); null where it does not.
    pub server: serde_json::Value,
    /// Images of one request.
    pub images: usize,
    /// One entry for each number of clients and each rate.
    pub points: Vec<LoadPoint>,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadPoint {
    /// What the server had to bear.
    pub load: Load,
    /// Seconds that count.
    pub seconds: f64,
    /// Windows that were run; the last three count.
    pub windows: usize,
    /// Whether the medians of the last three agreed.
    pub stable: bool,
    /// Requests a second that were answered with images.
    pub requests_per_second: f64,
    /// Images a second.
    pub images_per_second: f64,
    /// Requests that were answered with images.
    pub answered: usize,
    /// Requests that were answered 429.
    pub refused: usize,
    /// Requests that ended otherwise, by kind.
    pub errors: Vec<Failures>,
    /// Times of the answered requests in milliseconds, counted from when each was due.
    pub latency: Option<Times>,
    /// What the server's `x-queue-ms` says.
    pub queue: Option<Times>,
    /// What the server's `x-compute-ms` says.
    pub compute: Option<Times>,
    /// Mean of the server's `x-batch-size`.
    pub batch: Option<f64>,
    /// In an open loop: milliseconds by which requests were sent later than they were due; contained in the latency.
    pub sent_late: Option<Times>,
}

/// Errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// `connect`, `broken`, `timeout` or `status` with its number.
    pub kind: String,
    /// How many.
    pub count: usize,
    /// What the first of them says.
    pub first: String,
}

const CSV_HEAD: &str = "loop,clients,rate,arrivals,seconds,windows,stable,requests_per_second,images_per_second,\
                        answered,refused,errors,mean_ms,p50_ms,p90_ms,p99_ms,p999_ms,max_ms,queue_p50_ms,queue_p99_ms,\
                        compute_p50_ms,compute_p99_ms,batch,sent_late_p99_ms\n";

impl LoadPoint {
    /// Requests that ended neither with images nor with 429.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.errors.iter().map(|error| error.count).sum()
    }

    /// A time of the answered requests, with two places, or what stands for none.
    fn time(&self, which: fn(&Times) -> Option<f64>, none: &str) -> String {
        shown(self.latency.as_ref().and_then(which), 2, none)
    }

    fn csv(&self) -> String {
        let load = match self.load {
            Load::Closed { clients } => format!("closed,{clients},,"),
            Load::Open { rate, arrivals } => format!("open,,{rate},{arrivals}"),
        };
        let all =
            |times: &Option<Times>, which: fn(&Times) -> Option<f64>| shown(times.as_ref().and_then(which), 3, "");
        let times: [fn(&Times) -> Option<f64>; 6] =
            [|t| Some(t.mean), |t| Some(t.p50), |t| Some(t.p90), |t| t.p99, |t| t.p999, |t| Some(t.max)];
        let latency = times.map(|which| all(&self.latency, which)).join(",");
        let server = [&self.queue, &self.compute].map(|times| [all(times, times_p50), all(times, |t| t.p99)].join(","));
        format!(
            "{load},{:.3},{},{},{:.3},{:.3},{},{},{},{latency},{},{},{}\n",
            self.seconds,
            self.windows,
            self.stable,
            self.requests_per_second,
            self.images_per_second,
            self.answered,
            self.refused,
            self.failed(),
            server.join(","),
            shown(self.batch, 3, ""),
            all(&self.sent_late, |t| t.p99),
        )
    }

    fn row(&self) -> [String; 13] {
        let p50 = |times: &Option<Times>| shown(times.as_ref().and_then(times_p50), 2, "-");
        [
            self.load.to_string(),
            self.answered.to_string(),
            format!("{:.1}", self.requests_per_second),
            format!("{:.1}", self.images_per_second),
            format!("{}{}", self.time(times_p50, "-"), if self.stable { "" } else { "*" }),
            self.time(|times| Some(times.p90), "-"),
            self.time(|times| times.p99, "-"),
            self.time(|times| times.p999, "-"),
            p50(&self.queue),
            p50(&self.compute),
            shown(self.batch, 1, "-"),
            self.refused.to_string(),
            self.failed().to_string(),
        ]
    }

    /// Whether the sender was so late that the latency is not the server's alone.
    fn held_back(&self) -> bool {
        let (Some(late), Some(latency)) = (self.sent_late, self.latency) else { return false };
        late.p90 > 1.0 && late.p90 > 0.1 * latency.p90
    }
}

fn times_p50(times: &Times) -> Option<f64> {
    Some(times.p50)
}

fn shown(number: Option<f64>, places: usize, none: &str) -> String {
    number.map_or_else(|| none.to_owned(), |number| format!("{number:.places$}"))
}

impl LoadReport {
    /// The measurements as CSV with a line of names; empty where too few requests were answered.
    #[must_use]
    pub fn csv(&self) -> String {
        std::iter::once(CSV_HEAD.to_owned()).chain(self.points.iter().map(LoadPoint::csv)).collect()
    }

    /// Whether any request was answered with images.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.points.iter().any(|point| point.answered > 0)
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |pointer: &str| self.server.pointer(pointer).and_then(serde_json::Value::as_str);
        let images = if self.images == 1 { "1 image".to_owned() } else { format!("{} images", self.images) };
        writeln!(f, "{}, {images} a request", self.address)?;
        if let (Some(name), Some(sha256)) = (text("/model/name"), text("/model/sha256")) {
            let engine = ["/engine/name", "/engine/version", "/engine/provider"].map(|key| text(key).unwrap_or("?"));
            let sha256 = sha256.get(..12).unwrap_or(sha256);
            writeln!(f, "{name} ({sha256}) in {}", engine.join(" "))?;
        }
        let head = [
            "load",
            "answers",
            "requests/s",
            "images/s",
            "p50 ms",
            "p90",
            "p99",
            "p99.9",
            "queue",
            "compute",
            "batch",
            "refused",
            "errors",
        ];
        let lines: Vec<_> =
            std::iter::once(head.map(str::to_owned)).chain(self.points.iter().map(LoadPoint::row)).collect();
        f.write_str(&aligned(&lines))?;
        for point in &self.points {
            for Failures { kind, count, first } in &point.errors {
                writeln!(f, "{}: {count} x {kind}: {first}", point.load)?;
            }
            if point.held_back() {
                writeln!(
                    f,
                    "{}: requests left late, since this machine is busy or --most-open of them were on their way",
                    point.load
                )?;
            }
        }
        if self.points.iter().any(|point| !point.stable) {
            writeln!(f, "* the medians of the last three windows did not agree within 10 %")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::load::Arrivals;

    fn report() -> LoadReport {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let closed = LoadPoint {
            load: Load::Closed { clients: 8 },
            seconds: 9.0,
            windows: 4,
            stable: true,
            requests_per_second: 100.0,
            images_per_second: 400.0,
            answered: 100,
            refused: 3,
            errors: vec![Failures { kind: "timeout".into(), count: 2, first: "no answer within 1 s".into() }],
            latency: Times::new(&hundred),
            queue: Times::new(&[1.5]),
            compute: None,
            batch: Some(2.5),
            sent_late: None,
        };
        let open = LoadPoint {
            load: Load::Open { rate: 5.0, arrivals: Arrivals::Poisson },
            stable: false,
            errors: Vec::new(),
            latency: Times::new(&hundred[..10]),
            sent_late: Times::new(&hundred[..10]),
            ..closed.clone()
        };
        let server = json!({
            "model": { "name": "tiny", "sha256": "0123456789abcdef" },
            "engine": { "name": "rten", "version": "1", "provider": "cpu" },
        });
        let address = "http://localhost:8000/generate".to_owned();
        LoadReport { version: "0.1.0", address, server, images: 4, points: vec![closed, open] }
    }

    #[test]
    fn the_table_tells_what_went_wrong() {
        let text = report().to_string();
        assert!(text.starts_with("http://localhost:8000/generate, 4 images a request\ntiny (0123456789ab) in rten"));
        let rows: Vec<&str> = text.lines().skip(2).take(3).collect();
        assert!(rows.iter().all(|row| row.chars().count() == rows[0].chars().count()), "{text}");
        assert!(rows[1].contains("8 clients") && rows[1].contains(" 99.00 ") && rows[1].ends_with(" 2"), "{text}");
        assert!(rows[2].contains("5/s poisson") && rows[2].contains("5.00*"), "{text}");
        assert!(text.contains("8 clients: 2 x timeout: no answer within 1 s\n"), "{text}");
        assert!(text.contains("5/s poisson: requests left late") && text.contains("did not agree"), "{text}");
    }

    #[test]
    fn csv_and_json_hold_the_same_numbers() {
        let csv = report().csv();
        let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        assert!(rows.len() == 3 && rows.iter().all(|row| row.len() == rows[0].len()), "{csv}");
        let cell = |row: usize, name: &str| rows[row][rows[0].iter().position(|head| *head == name).unwrap()];
        assert_eq!((cell(1, "clients"), cell(1, "p99_ms"), cell(1, "p999_ms")), ("8", "99.000", ""));
        assert_eq!((cell(2, "rate"), cell(2, "arrivals"), cell(2, "p99_ms")), ("5", "poisson", ""));
        assert_eq!((cell(1, "errors"), cell(1, "refused"), cell(1, "queue_p50_ms")), ("2", "3", "1.500"));
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["points"][0]["load"], json!({ "loop": "closed", "clients": 8 }));
        assert_eq!(json["points"][1]["load"], json!({ "loop": "open", "rate": 5.0, "arrivals": "poisson" }));
        assert_eq!(json["points"][0]["latency"]["p99"], 99.0);
        assert_eq!(json["points"][0]["compute"], json!(null));
    }

    #[test]
    fn nothing_answered_is_no_success() {
        let mut report = report();
        assert!(report.succeeded());
        report.points.iter_mut().for_each(|point| (point.answered, point.latency) = (0, None));
        assert!(!report.succeeded() && report.to_string().contains("-*"));
    }
}
