//! Real images from queues of recently read ones (paper appendix A.8).

mod holding;
mod ring;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use drifting_spec::Stream;

use self::holding::{Holding, Queued};
use self::ring::Ring;
use super::feed::{DataInfo, Feed, FeedCounters, Request, StepData};
use super::{Ahead, DataError, Draw, Epochs, Images, Result, Sampler};
use crate::config::{ClassSource, LoaderSettings, QueueCheckpoint, QueueSettings, WarmUp};
use crate::ranks::Ranks;

/// Pushes whole loader batches into the queue of each image's class and into a global one, then draws the classes and
/// images of the step from them: without repetition if the queue holds enough, otherwise with.
///
/// The queues hold images, not features. A sample keeps its label from the source to the batch, so it cannot come back
/// under another one. Of several processes all know what is queued, and each reads and holds the images of its classes; those that
/// are drawn go to the process whose class group they are for.
#[derive(Debug)]
pub struct QueueFeed {
    images: Arc<Images>,
    settings: QueueSettings,
    loading: LoaderSettings,
    seed: u64,
    holding: Holding,
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
    samples: Vec<Queued>,
    /// Places of those that are other images than were asked for, as far as they are held.
    replaced: Vec<usize>,
}

impl QueueFeed {
    /// Empty queues of `images`; they are warmed up when the first step asks.
    #[must_use]
    pub fn new(images: Arc<Images>, settings: QueueSettings, loading: LoaderSettings, seed: u64) -> Self {
        let classes = (0..images.info().classes.len()).map(|_| Ring::new(settings.per_class)).collect();
        let global = Ring::new(settings.global);
        let (counters, holding) = (FeedCounters::default(), Holding::All);
        let loader = loader(&images, settings, loading, seed, holding);
        Self {
            images,
            settings,
            loading,
            seed,
            holding,
            loader,
            batches: 0,
            labels: Vec::new(),
            classes,
            global,
            counters,
        }
    }

    /// Holds what this rank is to hold, from the first batch on.
    fn join(&mut self, ranks: &dyn Ranks) -> Result<()> {
        let holding = match self.settings.checkpoint {
            QueueCheckpoint::Indices => Holding::of(ranks),
            // One process writes them all.
            QueueCheckpoint::Samples => Holding::All,
        };
        if holding == self.holding {
            return Ok(());
        }
        if self.batches > 0 {
            return Err(DataError::Inconsistent("queues were filled for other processes".into()));
        }
        self.holding = holding;
        self.loader = loader(&self.images, self.settings, self.loading, self.seed, holding);
        Ok(())
    }

    /// Pushes loader batches until at least as many images as a step asks for were pushed.
    fn push(&mut self, ranks: &dyn Ranks) -> Result<()> {
        let mut pushed = 0;
        while pushed < self.settings.push_per_step {
            let Loaded { mut samples, replaced } = self.loader.take(self.batches)?;
            if samples.is_empty() {
                return Err(DataError::Inconsistent("the loader batch is empty (queue.loader_batch)".into()));
            }
            pushed += samples.len();
            self.batches += 1;
            self.counters.pushed += samples.len() as u64;
            self.counters.replaced += self.holding.agree(ranks, &mut samples, &replaced);
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
    fn warm_up(&mut self, ranks: &dyn Ranks) -> Result<()> {
        match self.settings.warm_up {
            WarmUp::None => Ok(()),
            WarmUp::Pushes(pushes) => (0..pushes).try_for_each(|_| self.push(ranks)),
            WarmUp::PerClass(entries) => {
                // Every epoch brings an image of each class, so this ends.
                let entries = entries.min(self.settings.per_class);
                while self.classes.iter().any(|ring| ring.slots().len() < entries) {
                    self.push(ranks)?;
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
    fn draw(&mut self, class: Option<usize>, count: usize, stream: &mut Stream) -> Result<Vec<Arc<Queued>>> {
        let ring = class.map_or(&self.global, |class| &self.classes[class]);
        let held = ring.slots().len();
        if count > 0 && (held == 0 || self.settings.strict && held < count) {
            let name = class.map(|class| format!("class {class} ({})", self.images.info().classes[class]));
            let queue = name.unwrap_or_else(|| "all classes".to_owned());
            return Err(DataError::Underflow { queue, held, wanted: count, strict: self.settings.strict });
        }
        let slots = ring.draw(stream, count);
        let drawn: Vec<_> = slots.iter().map(|&slot| Arc::clone(&ring.slots()[slot])).collect();
        if let Some(sample) = drawn.iter().find(|sample| class.is_some_and(|class| class != sample.label)) {
            let (index, label) = (sample.draw.index, sample.label);
            return Err(DataError::Inconsistent(format!(
                "image {index} of class {label} is in the queue of {class:?}"
            )));
        }
        self.counters.drawn += count as u64;
        self.counters.count_group(slots.into_iter());
        Ok(drawn)
    }
}

/// Loader batches, of which `holding` says what is read.
fn loader(
    images: &Arc<Images>,
    settings: QueueSettings,
    loading: LoaderSettings,
    seed: u64,
    holding: Holding,
) -> Ahead<Loaded> {
    let (images, size) = (Arc::clone(images), settings.loader_batch);
    let epochs = Epochs::new(seed, images.info().images);
    let threads = loading.threads(images.is_cheap());
    Ahead::new(threads, loading.ahead, move |batch| {
        let draws = epochs.draws(batch * size as u64, size);
        let read = |&draw: &Draw| match images.source().label(draw.index) {
            label if !holding.holds(label) => Ok(Queued { draw, label, values: None }),
            _ => images.read(draw).map(Queued::from),
        };
        let samples = draws.iter().map(read).collect::<Result<Vec<_>>>()?;
        let replaced = (0..samples.len()).filter(|&place| samples[place].draw != draws[place]).collect();
        Ok(Loaded { samples, replaced })
    })
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

    fn next_among(&mut self, step: u64, request: Request, ranks: &dyn Ranks) -> Result<StepData> {
        self.join(ranks)?;
        if self.batches == 0 {
            self.warm_up(ranks)?;
        }
        self.push(ranks)?;
        let classes = self.choose_classes(step, request.classes)?;
        let mut stream = Stream::new(self.seed, "queue.positives", step);
        let of_class = |&class: &usize| self.draw(Some(class), request.positives, &mut stream);
        let positives = classes.iter().map(of_class).collect::<Result<Vec<_>>>()?;
        let mut stream = Stream::new(self.seed, "queue.unconditional", step);
        let of_any = |_: &usize| self.draw(None, request.unconditional, &mut stream);
        let unconditional = classes.iter().map(of_any).collect::<Result<Vec<_>>>()?;
        let len = self.images.info().shape.len();
        let Part { numbers: positives, mut ids } = self.holding.collect(ranks, &positives, len)?;
        let unconditional = self.holding.collect(ranks, &unconditional, len)?;
        ids.extend(unconditional.ids);
        Ok(StepData { classes, positives, unconditional: unconditional.numbers, ids })
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        // Vectors of the right length always make a tensor.
        state::save(self).unwrap_or_default()
    }

    fn restore_among(&mut self, _step: u64, state: &BTreeMap<String, Tensor>, ranks: &dyn Ranks) -> Result<()> {
        self.batches = 0;
        self.join(ranks)?;
        state::restore(self, state)
    }

    fn counters(&self) -> FeedCounters {
        self.counters
    }
}
