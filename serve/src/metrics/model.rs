//! The metrics that belong to one of a server's models. They outlast a swap of its file.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the histograms of times, in seconds.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Upper bounds of the histogram of batch sizes.
const BATCHES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Names and values.
type Labels = Vec<(&'static str, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What became of a model's file when it was asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// Another model serves now.
    Swapped,
    /// The file is the one that is being served.
    Unchanged,
    /// The file cannot be used; what served before still does.
    Failed,
}

impl Reloaded {
    const ALL: [Self; 3] = [Self::Swapped, Self::Unchanged, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Swapped => "swapped",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
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

/// The metrics of all models.
#[derive(Debug)]
pub(super) struct Families {
    images: Family<Labels, Counter>,
    queue_depth: Family<Labels, Gauge>,
    batch_size: Histograms,
    queue: Histograms,
    compute: Histograms,
    encode: Histograms,
    total: Histograms,
    reloads: Family<Labels, Counter>,
    info: Family<Labels, Gauge>,
}

impl Families {
    /// Gives everything its name.
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let sizes = || Family::new_with_constructor((|| Histogram::new(BATCHES)) as fn() -> Histogram);
        let times = || Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        let families = Self {
            images: Family::default(),
            queue_depth: Family::default(),
            batch_size: sizes(),
            queue: times(),
            compute: times(),
            encode: times(),
            total: times(),
            reloads: Family::default(),
            info: Family::default(),
        };
        registry.register("images", "Images that were made and encoded", families.images.clone());
        let help = "Images that wait or are being computed";
        registry.register("queue_depth", help, families.queue_depth.clone());
        let help = "Images that the engine computed at once";
        registry.register("batch_size", help, families.batch_size.clone());
        let mut time = |name: &str, help: &str, histograms: &Histograms| {
            registry.register_with_unit(name, help, Unit::Seconds, histograms.clone());
        };
        time("queue", "Time from admission to the first batch", &families.queue);
        time("compute", "Time in the engine, over all batches of a request", &families.compute);
        time("encode", "Time from numbers to a file", &families.encode);
        time("total", "Time from a request to its images", &families.total);
        let help = "Looks at a model's file when the server was told to, by what became of it";
        registry.register("reloads", help, families.reloads.clone());
        registry.register("model_info", "The model and the engine in use", families.info.clone());
        families
    }

    pub(super) fn of(&self, name: &str) -> ModelMetrics {
        let labels = vec![("model", name.to_owned())];
        let reloads = Reloaded::ALL.map(|result| {
            let result = [&labels[..], &[("result", result.name().to_owned())]].concat();
            self.reloads.get_or_create_owned(&result)
        });
        ModelMetrics {
            images: self.images.get_or_create_owned(&labels),
            queue_depth: self.queue_depth.get_or_create_owned(&labels),
            batch_size: self.batch_size.get_or_create_owned(&labels),
            queue: self.queue.get_or_create_owned(&labels),
            compute: self.compute.get_or_create_owned(&labels),
            encode: self.encode.get_or_create_owned(&labels),
            total: self.total.get_or_create_owned(&labels),
            reloads,
            info: self.info.clone(),
            serves: Arc::new(Mutex::new(labels.clone())),
            labels,
        }
    }
}

/// The metrics of one model; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct ModelMetrics {
    images: Counter,
    queue_depth: Gauge,
    batch_size: Histogram,
    queue: Histogram,
    compute: Histogram,
    encode: Histogram,
    total: Histogram,
    reloads: [Counter; 3],
    info: Family<Labels, Gauge>,
    /// The labels that `info` has now.
    serves: Arc<Mutex<Labels>>,
    labels: Labels,
}

impl ModelMetrics {
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

    /// So many images wait or are being computed.
    pub(crate) fn waiting(&self, images: usize) {
        self.queue_depth.set(i64::try_from(images).unwrap_or(i64::MAX));
    }

    /// The model's file was looked at again.
    pub(crate) fn reloaded(&self, result: Reloaded) {
        let counters = Reloaded::ALL.iter().zip(&self.reloads);
        counters.filter(|(known, _)| **known == result).for_each(|(_, counter)| {
            counter.inc();
        });
    }

    /// `about` holds names and values that tell the model and the engine that serve from now on.
    pub(crate) fn serves(&self, about: Labels) {
        let mut serves = self.serves.lock().unwrap_or_else(PoisonError::into_inner);
        self.info.remove(&serves);
        *serves = [&self.labels[..], &about].concat();
        self.info.get_or_create(&serves).set(1);
    }
}
