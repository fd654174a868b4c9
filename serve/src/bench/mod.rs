//! How fast an exported model is here: time and rate for batch sizes and numbers of threads.

mod measure;
mod report;

use std::num::NonZeroUsize;
use std::time::Instant;

use drifting_spec::{Inputs, Manifest};

use crate::engine::{self, EngineError, EngineInfo, EngineSettings};
use crate::model::Model;

pub use crate::statistics::Windows;
pub use measure::Latency;
pub use report::{BenchReport, Peak, Point};

/// The largest batch that is measured.
const LARGEST_BATCH: usize = 1024;
/// Numbers of noise in the largest batch that is measured: 1 GiB.
const MOST_NOISE: usize = 1 << 28;

/// What is measured.
#[derive(Clone, Debug)]
pub struct BenchSettings {
    /// Batch sizes, each with each number of threads.
    pub batches: Vec<usize>,
    /// Threads that compute one batch.
    pub threads: Vec<NonZeroUsize>,
    /// How long.
    pub windows: Windows,
    /// Floating point operations a second of a large matrix product with so many threads, or why they cannot be measured.
    pub peak: fn(usize) -> Result<f64, String>,
}

/// A measurement that failed, and why.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Something cannot be measured.
    #[error("{0}")]
    Settings(String),
    /// The engine cannot be loaded or run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The machine's own peak cannot be measured.
    #[error("the machine's peak cannot be measured: {0}")]
    Peak(String),
}

/// Where a measurement is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Measurements that are done, and all of them.
    pub done: (usize, usize),
    /// Threads of the one that runs.
    pub threads: usize,
    /// Its batch; none while the machine's own peak is measured.
    pub batch: Option<usize>,
    /// Its windows so far.
    pub window: usize,
    /// Images a second in the last window.
    pub images_per_second: f64,
}

/// Measures `model` in the engine that `engine` chooses. `told` hears what is being done, and `notify` what an engine says
/// before it fetches anything.
///
/// # Errors
/// Batch sizes that cannot be measured; an engine that cannot be loaded, or that fails.
pub fn bench(
    model: &Model,
    engine: &EngineSettings,
    settings: &BenchSettings,
    notify: &dyn Fn(&str),
    told: &mut dyn FnMut(&Progress),
) -> Result<BenchReport, BenchError> {
    check(&model.manifest, settings)?;
    let flops = 2.0 * model.manifest.macs() as f64;
    let all = settings.batches.len() * settings.threads.len();
    let (mut peaks, mut points, mut info) = (Vec::new(), Vec::new(), None);
    for &threads in &settings.threads {
        let engine = EngineSettings { threads: Some(threads), ..engine.clone() };
        let mut engine = engine::open(model, &engine, notify)?;
        let threads = threads.get();
        let start = Progress { done: (points.len(), all), threads, batch: None, window: 0, images_per_second: 0.0 };
        told(&start);
        let peak =
            on_processor(engine.info()).then(|| (settings.peak)(threads)).transpose().map_err(BenchError::Peak)?;
        peaks.extend(peak.map(|flops_per_second| Peak { threads, flops_per_second }));
        for &batch in &settings.batches {
            let inputs = inputs(&model.manifest, batch);
            // Numbers that are not finite have a speed of their own.
            engine::run(engine.as_mut(), &inputs)?;
            let mut run = || {
                let begin = Instant::now();
                engine.run(&inputs)?;
                Ok::<_, EngineError>(begin.elapsed())
            };
            let mut progress = Progress { done: (points.len(), all), batch: Some(batch), ..start };
            told(&progress);
            let latency = measure::measure(&settings.windows, &mut run, &mut |window, mean| {
                (progress.window, progress.images_per_second) = (window, batch as f64 / mean.as_secs_f64());
                told(&progress);
            })?;
            let images_per_second = 1e3 * batch as f64 / latency.mean;
            let flops_per_second = flops * images_per_second;
            let share_of_peak = peak.map(|peak| flops_per_second / peak);
            points.push(Point { threads, batch, latency, images_per_second, flops_per_second, share_of_peak });
        }
        info = Some(engine.info().clone());
    }
    let Some(engine) = info else {
        return Err(BenchError::Settings("no number of threads to measure with".to_owned()));
    };
    Ok(BenchReport {
        version: env!("CARGO_PKG_VERSION"),
        model: model.manifest.name.clone(),
        sha256: model.sha256.clone(),
        flops,
        engine,
        peaks,
        points,
    })
}

fn check(manifest: &Manifest, settings: &BenchSettings) -> Result<(), BenchError> {
    let most = LARGEST_BATCH.min(MOST_NOISE / manifest.generator.image.len().max(1));
    match settings.batches.iter().find(|&batch| !(1..=most).contains(batch)) {
        Some(batch) => Err(BenchError::Settings(format!("a batch of {batch} cannot be measured: 1 to {most} can"))),
        None if settings.batches.is_empty() => Err(BenchError::Settings("no batch size to measure".to_owned())),
        None => Ok(()),
    }
}

/// Whether the processor computes, so that its own peak is the bar.
fn on_processor(info: &EngineInfo) -> bool {
    info.provider.to_ascii_lowercase().contains("cpu")
}

/// Images of all classes in turn.
fn inputs(manifest: &Manifest, batch: usize) -> Inputs {
    let classes = manifest.generator.classes.max(1);
    let conditions: Vec<_> = (0..batch).map(|image| (image % classes, manifest.alpha.default)).collect();
    Inputs::seeded(&manifest.generator, 0, &conditions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{info, manifest};

    fn settings(batches: &[usize]) -> BenchSettings {
        BenchSettings { batches: batches.to_vec(), threads: Vec::new(), windows: Windows::default(), peak: |_| Ok(1e9) }
    }

    #[test]
    fn what_cannot_be_measured_is_told() {
        let refused = |batches: &[usize]| check(&manifest(), &settings(batches)).unwrap_err().to_string();
        assert_eq!(refused(&[1, 0]), "a batch of 0 cannot be measured: 1 to 1024 can");
        assert_eq!(refused(&[4096]), "a batch of 4096 cannot be measured: 1 to 1024 can");
        assert_eq!(refused(&[]), "no batch size to measure");
        let mut large = manifest();
        (large.generator.image.height, large.generator.image.width) = (8192, 8192);
        assert!(check(&large, &settings(&[8])).unwrap_err().to_string().contains("1 to 4 can"));
    }

    #[test]
    fn inputs_are_those_of_a_batch() {
        let inputs = inputs(&manifest(), 7);
        assert_eq!(inputs.class, [0, 1, 2, 3, 4, 0, 1]);
        assert!(inputs.alpha.iter().all(|&alpha| alpha == 1.5));
    }

    #[test]
    fn only_processors_have_the_processors_peak() {
        let on = |provider| on_processor(&EngineInfo { provider, ..info() });
        assert!(on("CPUExecutionProvider") && on("rten-cpu") && !on("CUDAExecutionProvider"));
    }
}
