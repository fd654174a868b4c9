//! Real images from queues of recently read ones (paper appendix A.8).

mod ring;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use drifting_spec::Stream;

use self::ring::Ring;
use super::feed::{DataInfo, Feed, FeedCounters, Request, StepData};
use super::{Ahead, DataError, Epochs, Images, Result, Sample, Sampler};
use crate::config::{ClassSource, LoaderSettings, QueueSettings, WarmUp};

/// Pushes whole loader batches into the queue of each image's class and into a global one, then draws the classes and
/// images of the step from them: without repetition if the queue holds enough, otherwise with.
///
/// The queues hold images, not features. A sample keeps its label from the source to the batch, so it cannot come back
/// under another one.
#[derive(Debug)]
pub struct QueueFeed {
    images: Arc<Images>,
    settings: QueueSettings,
    seed: u64,
    loader: Ahead<Loaded>,
    /// Loader batches that were pushed.
    batches: u64,
    /// Labels of the last one.
    labels: Vec<usize>,
    classes: Vec<Ring>,
    global: Ring,
    counters: FeedCounters,
}

/// A loader batch.
#[derive(Debug)]
struct Loaded {
    samples: Vec<Sample>,
    replaced: u64,
}

impl QueueFeed {
    /// Empty queues of `images`; they are warmed up when the first step asks.
    #[must_use]
    pub fn new(images: Arc<Images>, settings: QueueSettings, loader: LoaderSettings, seed: u64) -> Self {
        let epochs = Epochs::new(seed, images.info().images);
        let (shared, size) = (Arc::clone(&images), settings.loader_batch);
        let load = move |batch: u64| {
            let draws = epochs.draws(batch * size as u64, size);
            let samples = draws.iter().map(|&draw| shared.read(draw)).collect::<Result<Vec<_>>>()?;
            let replaced = draws.iter().zip(&samples).filter(|(asked, found)| **asked != found.draw).count() as u64;
            Ok(Loaded { samples, replaced })
        };
        let loader = Ahead::new(loader.threads(images.is_cheap()), loader.ahead, load);
        let classes = (0..images.info().classes.len()).map(|_| Ring::new(settings.per_class)).collect();
        let global = Ring::new(settings.global);
        let counters = FeedCounters::default();
        Self { images, settings, seed, loader, batches: 0, labels: Vec::new(), classes, global, counters }
    }

    /// Pushes loader batches until at least as many images as a step asks for were pushed.
    fn push(&mut self) -> Result<()> {
        let mut pushed = 0;
        while pushed < self.settings.push_per_step {
            let Loaded { samples, replaced } = self.loader.take(self.batches)?;
            if samples.is_empty() {
                return Err(DataError::Inconsistent("the loader batch is empty (queue.loader_batch)".into()));
            }
            pushed += samples.len();
            self.batches += 1;
            self.counters.pushed += samples.len() as u64;
            self.counters.replaced += replaced;
            self.labels.clear();
            for sample in samples {
                let sample = Arc::new(sample);
                self.labels.push(sample.label);
                self.global.push(Arc::clone(&sample));
                if let Some(ring) = self.classes.get_mut(sample.label) {
                    ring.push(sample);
                }
            }
        }
        Ok(())
    }

    /// Fills the queues as the settings ask before the first step.
    fn warm_up(&mut self) -> Result<()> {
        match self.settings.warm_up {
            WarmUp::None => Ok(()),
            WarmUp::Pushes(pushes) => (0..pushes).try_for_each(|_| self.push()),
            WarmUp::PerClass(entries) => {
                // Every epoch brings an image of each class, so this ends.
                let entries = entries.min(self.settings.per_class);
                while self.classes.iter().any(|ring| ring.slots().len() < entries) {
                    self.push()?;
                }
                Ok(())
            }
        }
    }

    fn choose_classes(&self, step: u64, count: usize) -> Result<Vec<usize>> {
        match self.settings.classes {
            ClassSource::Uniform => Ok(Sampler::new(self.images.by_class(), self.seed).classes(step, count)),
            ClassSource::Loader if count > self.labels.len() => Err(DataError::Setting {
                key: "queue.loader_batch",
                problem: format!("{} labels, but a step asks for {count} classes", self.labels.len()),
            }),
            ClassSource::Loader => {
                let positions = Stream::new(self.seed, "queue.classes", step).choose(self.labels.len(), count);
                Ok(positions.into_iter().map(|position| self.labels[position]).collect())
            }
        }
    }

    /// Draws `count` samples of a class, or of any for `None`.
    fn draw(&mut self, class: Option<usize>, count: usize, stream: &mut Stream, into: &mut Part) -> Result<()> {
        let ring = class.map_or(&self.global, |class| &self.classes[class]);
        let held = ring.slots().len();
        if count > 0 && (held == 0 || self.settings.strict && held < count) {
            let name = class.map(|class| format!("class {class} ({})", self.images.info().classes[class]));
            let queue = name.unwrap_or_else(|| "all classes".to_owned());
            return Err(DataError::Underflow { queue, held, wanted: count, strict: self.settings.strict });
        }
        let slots = ring.draw(stream, count);
        for sample in slots.iter().map(|&slot| &ring.slots()[slot]) {
            if class.is_some_and(|class| class != sample.label) {
                let (index, label) = (sample.draw.index, sample.label);
                return Err(DataError::Inconsistent(format!(
                    "image {index} of class {label} is in the queue of {class:?}"
                )));
            }
            sample.values.append_to(&mut into.numbers);
            into.ids.push(sample.draw.index as u64);
        }
        self.counters.drawn += count as u64;
        self.counters.count_group(slots.into_iter());
        Ok(())
    }
}

/// Images that were drawn for one purpose.
#[derive(Default)]
struct Part {
    numbers: Vec<f32>,
    ids: Vec<u64>,
}

impl Feed for QueueFeed {
    fn info(&self) -> &DataInfo {
        self.images.info()
    }

    fn next(&mut self, step: u64, request: Request) -> Result<StepData> {
        if self.batches == 0 {
            self.warm_up()?;
        }
        self.push()?;
        let classes = self.choose_classes(step, request.classes)?;
        let (mut positives, mut others) = (Part::default(), Part::default());
        let mut stream = Stream::new(self.seed, "queue.positives", step);
        for &class in &classes {
            self.draw(Some(class), request.positives, &mut stream, &mut positives)?;
        }
        let mut stream = Stream::new(self.seed, "queue.unconditional", step);
        for _ in &classes {
            self.draw(None, request.unconditional, &mut stream, &mut others)?;
        }
        positives.ids.extend(others.ids);
        Ok(StepData { classes, positives: positives.numbers, unconditional: others.numbers, ids: positives.ids })
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        // Vectors of the right length always make a tensor.
        state::save(self).unwrap_or_default()
    }

    fn restore(&mut self, _step: u64, state: &BTreeMap<String, Tensor>) -> Result<()> {
        state::restore(self, state)
    }

    fn counters(&self) -> FeedCounters {
        self.counters
    }
}
