//! What a server counts and times for Prometheus; `docs/http-api.md` lists it for those who watch.

mod model;

use std::fmt;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use model::Families;
pub(crate) use model::{ModelMetrics, Reloaded, Times};

/// The type of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Route and status.
type Answered = ([(&'static str, String); 1], [(&'static str, u16); 1]);

/// The metrics of one server; several in a process do not know of each other.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    rejected: Family<[(&'static str, &'static str); 1], Counter>,
    models: Families,
}

impl Metrics {
    /// Metrics in which nothing has happened.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("drift");
        let (requests, rejected) = (Family::default(), Family::default());
        registry.register("requests", "Requests that were answered", Family::clone(&requests));
        let help = "Requests that were answered with an error, by its code";
        registry.register("rejected", help, Family::clone(&rejected));
        let models = Families::registered(&mut registry);
        Self { registry, requests, rejected, models }
    }

    /// The metrics of the model `name`, with which nothing has happened yet.
    pub(crate) fn model(&self, name: &str) -> ModelMetrics {
        self.models.of(name)
    }

    /// A request was answered; `route` is one of the server's own.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        self.requests.get_or_create(&([("route", route.to_owned())], [("status", status)])).inc();
    }

    /// An answer was the error `code`.
    pub(crate) fn rejected(&self, code: &'static str) {
        self.rejected.get_or_create(&[("reason", code)]).inc();
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// None that a text can have.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn assert_lines(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line}\n{text}");
        }
    }

    #[test]
    fn names_labels_and_buckets() {
        let metrics = Metrics::new();
        metrics.answered("/generate", 200);
        metrics.answered("/generate", 200);
        metrics.rejected("queue_full");
        let model = metrics.model("a");
        metrics.model("b").batch(2);
        model.batch(4);
        let ms = Duration::from_millis;
        model.made(3, Times { queue: ms(1), compute: ms(20), encode: ms(0), total: ms(21) });
        model.waiting(7);
        let lines = [
            "# TYPE drift_requests_total counter",
            "drift_requests_total{route=\"/generate\",status=\"200\"} 2",
            "drift_rejected_total{reason=\"queue_full\"} 1",
            "drift_images_total{model=\"a\"} 3",
            "drift_images_total{model=\"b\"} 0",
            "drift_queue_depth{model=\"a\"} 7",
            "drift_batch_size_bucket{le=\"2\",model=\"a\"} 0",
            "drift_batch_size_bucket{le=\"4\",model=\"a\"} 1",
            "drift_batch_size_sum{model=\"b\"} 2.0",
            "drift_queue_seconds_bucket{le=\"0.001\",model=\"a\"} 1",
            "drift_compute_seconds_bucket{le=\"0.01\",model=\"a\"} 0",
            "drift_compute_seconds_sum{model=\"a\"} 0.02",
            "drift_encode_seconds_count{model=\"a\"} 1",
            "drift_total_seconds_bucket{le=\"+Inf\",model=\"a\"} 1",
        ];
        assert_lines(&metrics.text().unwrap(), &lines);
    }

    #[test]
    fn the_model_info_follows_a_swap_and_the_counters_go_on() {
        let metrics = Metrics::new();
        let model = metrics.model("a");
        model.batch(1);
        model.serves(vec![("name", "first \"b\"\n".to_owned())]);
        let before = metrics.text().unwrap();
        assert_lines(&before, &["drift_model_info{model=\"a\",name=\"first \\\"b\\\"\\n\"} 1"]);
        model.serves(vec![("name", "second".to_owned())]);
        model.reloaded(Reloaded::Swapped);
        model.reloaded(Reloaded::Failed);
        model.batch(1);
        let after = metrics.text().unwrap();
        let lines = [
            "drift_model_info{model=\"a\",name=\"second\"} 1",
            "drift_reloads_total{model=\"a\",result=\"swapped\"} 1",
            "drift_reloads_total{model=\"a\",result=\"unchanged\"} 0",
            "drift_reloads_total{model=\"a\",result=\"failed\"} 1",
            "drift_batch_size_count{model=\"a\"} 2",
        ];
        assert_lines(&after, &lines);
        assert!(!after.contains("first"), "{after}");
    }
}
