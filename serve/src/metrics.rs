//! What a service counts and times for Prometheus; `docs/http-api.md` lists it for those who watch.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The type of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Upper bounds of the histograms of times, in seconds.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Upper bounds of the histogram of batch sizes.
const BATCHES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Route and status.
type Answered = ([(&'static str, String); 1], [(&'static str, u16); 1]);

/// The metrics of one service; several in a process do not know of each other.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    rejected: Family<[(&'static str, &'static str); 1], Counter>,
    images: Counter,
    queue_depth: Gauge,
    batch_size: Histogram,
    queue: Histogram,
    compute: Histogram,
    encode: Histogram,
    total: Histogram,
}

/// Times of one answered order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// From admission to the first batch.
    pub(crate) queue: Duration,
    /// In the engine.
    pub(crate) compute: Duration,
    /// From numbers to a file.
    pub(crate) encode: Duration,
    /// From the request to its answer.
    pub(crate) total: Duration,
}

impl Metrics {
    /// Metrics in which nothing has happened. `model` holds names and values that tell the model and its engine.
    pub(crate) fn new(model: Vec<(&'static str, String)>) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("drift"),
            requests: Family::default(),
            rejected: Family::default(),
            images: Counter::default(),
            queue_depth: Gauge::default(),
            batch_size: Histogram::new(BATCHES),
            queue: Histogram::new(SECONDS),
            compute: Histogram::new(SECONDS),
            encode: Histogram::new(SECONDS),
            total: Histogram::new(SECONDS),
        };
        metrics.registered(model)
    }

    /// Gives everything its name.
    fn registered(mut self, model: Vec<(&'static str, String)>) -> Self {
        let registry = &mut self.registry;
        registry.register("requests", "Requests that were answered", self.requests.clone());
        registry.register("rejected", "Requests that were answered with an error, by its code", self.rejected.clone());
        registry.register("images", "Images that were made and encoded", self.images.clone());
        registry.register("queue_depth", "Images that wait or are being computed", self.queue_depth.clone());
        registry.register("batch_size", "Images that the engine computed at once", self.batch_size.clone());
        let mut time = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        time("queue", "Time from admission to the first batch", &self.queue);
        time("compute", "Time in the engine, over all batches of a request", &self.compute);
        time("encode", "Time from numbers to a file", &self.encode);
        time("total", "Time from a request to its images", &self.total);
        registry.register("model", "The model and the engine in use", Info::new(model));
        self
    }

    /// A request was answered; `route` is one of the server's own.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        self.requests.get_or_create(&([("route", route.to_owned())], [("status", status)])).inc();
    }

    /// An answer was the error `code`.
    pub(crate) fn rejected(&self, code: &'static str) {
        self.rejected.get_or_create(&[("reason", code)]).inc();
    }

    /// The engine computed `size` images at once.
    pub(crate) fn batch(&self, size: usize) {
        self.batch_size.observe(size as f64);
    }

    /// An order of `images` was answered with them.
    pub(crate) fn made(&self, images: usize, times: Times) {
        let Times { queue, compute, encode, total } = times;
        self.images.inc_by(images as u64);
        let pairs = [(&self.queue, queue), (&self.compute, compute), (&self.encode, encode), (&self.total, total)];
        for (histogram, time) in pairs {
            histogram.observe(time.as_secs_f64());
        }
    }

    /// Everything in Prometheus' text format while `busy` images wait.
    ///
    /// # Errors
    /// None that a text can have.
    pub(crate) fn text(&self, busy: usize) -> Result<String, fmt::Error> {
        self.queue_depth.set(i64::try_from(busy).unwrap_or(i64::MAX));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_buckets() {
        let metrics = Metrics::new(vec![("name", "a \"b\"\n".to_owned())]);
        metrics.answered("/generate", 200);
        metrics.answered("/generate", 200);
        metrics.rejected("queue_full");
        metrics.batch(4);
        let ms = Duration::from_millis;
        metrics.made(3, Times { queue: ms(1), compute: ms(20), encode: ms(0), total: ms(21) });
        let text = metrics.text(7).unwrap();
        for line in [
            "# TYPE drift_requests_total counter",
            "drift_requests_total{route=\"/generate\",status=\"200\"} 2",
            "drift_rejected_total{reason=\"queue_full\"} 1",
            "drift_images_total 3",
            "drift_queue_depth 7",
            "drift_batch_size_bucket{le=\"2\"} 0",
            "drift_batch_size_bucket{le=\"4\"} 1",
            "drift_queue_seconds_bucket{le=\"0.001\"} 1",
            "drift_compute_seconds_bucket{le=\"0.01\"} 0",
            "drift_compute_seconds_sum 0.02",
            "drift_encode_seconds_count 1",
            "drift_total_seconds_bucket{le=\"+Inf\"} 1",
            "drift_model_info{name=\"a \\\"b\\\"\\n\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
