//! What a step found and where its time went.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::Device;
use drifting_models::profile;
use serde::Serialize;

/// The quantities of one key that say something about training; the loss itself stays flat by construction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyMetrics {
    /// S, mean distance of generated features to their targets.
    pub scale: f64,
    /// Mean square m of the drift of each temperature before it is normalised, in the order of the settings.
    pub drift: Vec<f64>,
    /// Loss.
    pub loss: f64,
}

/// Time that each part of a step took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Waiting for the real images.
    pub data: Duration,
    /// The generator's forward passes.
    pub generate: Duration,
    /// The encoders' forward passes, over generated and real images.
    pub encode: Duration,
    /// Statistics, drifts and the gradients on maps.
    pub drift: Duration,
    /// Back through encoders and generator.
    pub backward: Duration,
    /// Clipping, optimizer and moving averages.
    pub optimizer: Duration,
}

impl Timings {
    /// Seconds of each part by name.
    #[must_use]
    pub fn seconds(&self) -> BTreeMap<&'static str, f64> {
        let parts = [
            ("data", self.data),
            ("generate", self.generate),
            ("encode", self.encode),
            ("drift", self.drift),
            ("backward", self.backward),
            ("optimizer", self.optimizer),
        ];
        parts.into_iter().map(|(name, time)| (name, time.as_secs_f64())).collect()
    }
}

/// The result of `task`, which is the part `name` of a step; the time that it took is added to `total`: that until all is queued,
/// on a device that computes by itself, or while spans are recorded until it is done.
pub(super) fn timed<T>(name: &'static str, device: &Device, total: &mut Duration, task: impl FnOnce() -> T) -> T {
    let _span = profile::span(name);
    let started = Instant::now();
    let result = task();
    if profile::recording() {
        // A device that has failed says so at its next use.
        let _ = device.synchronize();
    }
    *total += started.elapsed();
    result
}

/// What one step found.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Steps taken, this one included.
    pub step: u64,
    /// Loss; constant by construction, no measure of progress.
    pub loss: f64,
    /// Metrics of each feature key.
    pub keys: BTreeMap<String, KeyMetrics>,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Mean alpha of the class groups.
    pub alpha: f32,
    /// Time spent on getting the real images.
    pub data_wait: Duration,
    /// Time of each part.
    pub timings: Timings,
    /// Time of the whole step.
    pub wall: Duration,
}
