//! Drawing straight from the data.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::feed::{DataInfo, Feed, FeedCounters, LabelledBatch, LabelledBatches, Request, StepData};
use super::{Ahead, Counts, DataError, Dataset, Draw, Encoding, Epochs, Images, Result, Sampler};
use crate::config::LoaderSettings;
use crate::ranks::{Ranks, Share};

/// Draws the classes and images of each step from the whole data set, as a function of (seed, step). Each of several
/// processes reads the images of its own class groups.
#[derive(Debug)]
pub struct DirectFeed {
    images: Arc<Images>,
    seed: u64,
    loader: LoaderSettings,
    steps: Option<Steps>,
    counters: FeedCounters,
}

/// The steps of one share.
#[derive(Debug)]
struct Steps {
    request: Request,
    share: Share,
    ahead: Ahead<(StepData, FeedCounters)>,
}

impl DirectFeed {
    /// A feed of data in memory as they are.
    #[must_use]
    pub fn new(data: Arc<Dataset>, seed: u64) -> Self {
        Self::of(Arc::new(Images::of(data)), LoaderSettings::default(), seed)
    }

    /// A feed of any images.
    #[must_use]
    pub fn of(images: Arc<Images>, loader: LoaderSettings, seed: u64) -> Self {
        Self { images, seed, loader, steps: None, counters: FeedCounters::default() }
    }
}

impl Feed for DirectFeed {
    fn info(&self) -> &DataInfo {
        self.images.info()
    }

    fn next_among(&mut self, step: u64, request: Request, ranks: &dyn Ranks) -> Result<StepData> {
        let share = Share::of(ranks, request.classes);
        let kept = self.steps.take().filter(|steps| (steps.request, steps.share) == (request, share));
        let steps = self.steps.insert(kept.unwrap_or_else(|| {
            let (images, seed) = (Arc::clone(&self.images), self.seed);
            let make = move |step| draw_step(&images, seed, step, request, share);
            let ahead = Ahead::new(self.loader.threads(self.images.is_cheap()), self.loader.ahead, make);
            Steps { request, share, ahead }
        }));
        let (data, mut counters) = steps.ahead.take(step)?;
        // Who reads an image knows whether it was replaced.
        counters.replaced = ranks.gather(&[counters.replaced as f64]).iter().sum::<f64>() as u64;
        self.counters.add(counters);
        Ok(data)
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    fn restore_among(&mut self, _step: u64, state: &BTreeMap<String, Tensor>, _: &dyn Ranks) -> Result<()> {
        match state.keys().next() {
            None => Ok(()),
            Some(name) => {
                let problem = "drawing straight from the data keeps no state, but the checkpoint has some (queue)";
                Err(DataError::State { name: name.clone(), problem: problem.to_owned() })
            }
        }
    }

    fn counters(&self) -> FeedCounters {
        self.counters
    }
}

/// The images of a share of one step, and what happened on the way to all of them, but for what was replaced in other shares.
fn draw_step(
    images: &Images,
    seed: u64,
    step: u64,
    request: Request,
    share: Share,
) -> Result<(StepData, FeedCounters)> {
    let sampler = Sampler::new(images.by_class(), seed);
    let classes = sampler.classes(step, request.classes);
    let drawn =
        sampler.draw(step, &classes, Counts { positives: request.positives, unconditional: request.unconditional });
    let per_step = (drawn.positives.len() + drawn.unconditional.len()) as u64;
    let numbered = |indices: &[usize], first: u64| -> Vec<Draw> {
        indices.iter().zip(first..).map(|(&index, number)| Draw { index, number }).collect()
    };
    let positive = numbered(&drawn.positives, step * per_step);
    let unconditional = numbered(&drawn.unconditional, step * per_step + positive.len() as u64);

    let mut counters = FeedCounters { drawn: per_step, ..FeedCounters::default() };
    let groups = positive.chunks(request.positives.max(1)).chain(unconditional.chunks(request.unconditional.max(1)));
    groups.for_each(|group| counters.count_group(group.iter().map(|draw| draw.index)));
    let positive = share.part(&positive, request.positives);
    let unconditional = share.part(&unconditional, request.unconditional);
    let (positives, mut ids) = images.read_all(positive)?;
    let (others, other_ids) = images.read_all(unconditional)?;
    ids.extend(other_ids);
    let asked = positive.iter().chain(unconditional);
    counters.replaced = asked.zip(&ids).filter(|(draw, id)| draw.index as u64 != **id).count() as u64;
    Ok((StepData { classes, positives, unconditional: others, ids }, counters))
}

/// Labelled batches, epoch after epoch: each image once an epoch, in an order that is a function of (seed, epoch); the
/// last batch of an epoch ends with the first images of the next one.
#[derive(Debug)]
pub struct DirectBatches {
    images: Arc<Images>,
    epochs: Arc<Epochs>,
    loader: LoaderSettings,
    encoding: Option<Encoding>,
    info: DataInfo,
    steps: Option<(usize, Ahead<LabelledBatch>)>,
}

impl DirectBatches {
    /// Batches of data in memory as they are.
    #[must_use]
    pub fn new(data: Arc<Dataset>, seed: u64) -> Self {
        Self::of(Arc::new(Images::of(data)), LoaderSettings::default(), seed)
    }

    /// Batches of any images.
    #[must_use]
    pub fn of(images: Arc<Images>, loader: LoaderSettings, seed: u64) -> Self {
        let info = images.info().clone();
        let epochs = Arc::new(Epochs::new(seed, info.images));
        Self { images, epochs, loader, encoding: None, info, steps: None }
    }

    /// The latents of the images, which must have the shape that `encoding` takes; the threads that read them also encode
    /// them.
    #[must_use]
    pub fn encoded(mut self, encoding: Encoding) -> Self {
        self.info.shape = encoding.latent();
        Self { encoding: Some(encoding), steps: None, ..self }
    }
}

impl LabelledBatches for DirectBatches {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn next(&mut self, step: u64, count: usize) -> Result<LabelledBatch> {
        let kept = self.steps.take().filter(|(kept, _)| *kept == count);
        let (_, steps) = self.steps.insert(kept.unwrap_or_else(|| {
            let (images, epochs, encoding) =
                (Arc::clone(&self.images), Arc::clone(&self.epochs), self.encoding.clone());
            let cheap = images.is_cheap() && encoding.is_none();
            let make = move |step: u64| {
                let draws = epochs.draws(step * count as u64, count);
                let (mut numbers, ids) = images.read_all(&draws)?;
                if let Some(encoding) = &encoding {
                    let drawn: Vec<u64> = draws.iter().map(|draw| draw.number).collect();
                    numbers = encoding.encode(&numbers, &drawn)?;
                }
                let labels = draws.iter().map(|draw| images.source().label(draw.index)).collect();
                Ok(LabelledBatch { images: numbers, labels, ids })
            };
            (count, Ahead::new(self.loader.threads(cheap), self.loader.ahead, make))
        }));
        steps.take(step)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use drifting_spec::ImageShape;

    use super::super::{Augment, Crop};

    use super::*;

    const FASHION: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };

    /// 3 images of class 0, 17 of class 1; each image is its own number.
    fn data() -> Arc<Dataset> {
        let shape = ImageShape { channels: 1, height: 1, width: 2 };
        let pixels = (0..20u8).flat_map(|image| [image, 0]).collect();
        let labels = (0..20).map(|image| usize::from(image >= 3)).collect();
        Arc::new(Dataset::new(shape, pixels, labels, vec!["few".into(), "many".into()]).unwrap())
    }

    fn numbers(images: &[f32]) -> Vec<u64> {
        images.chunks(2).map(|image| ((image[0] + 1.0) * 127.5).round() as u64).collect()
    }

    #[test]
    fn a_feed_hands_out_what_the_sampler_draws() {
        let data = data();
        let mut feed = DirectFeed::new(Arc::clone(&data), 5);
        let request = Request { classes: 2, positives: 4, unconditional: 3 };
        let step = feed.next(7, request).unwrap();
        let by_class: Vec<Vec<usize>> = (0..2).map(|class| data.of_class(class).to_vec()).collect();
        let drawn = Sampler::new(&by_class, 5).draw(7, &[0, 1], Counts { positives: 4, unconditional: 3 });
        assert_eq!(step.classes, [0, 1]);
        let expected: Vec<u64> =
            drawn.positives.iter().chain(&drawn.unconditional).map(|&index| index as u64).collect();
        assert_eq!(step.ids, expected);
        assert_eq!(step.ids, [numbers(&step.positives), numbers(&step.unconditional)].concat());
        let repeated = 4 - BTreeSet::from_iter(&step.ids[..4]).len() as u64;
        let counters = FeedCounters { drawn: 14, underflows: 1, repeated, ..FeedCounters::default() };
        assert_eq!(feed.counters(), counters);
        assert_eq!(DirectFeed::new(data, 5).next(7, request).unwrap(), step);
    }

    #[test]
    fn a_state_of_another_feed_is_refused() {
        let mut feed = DirectFeed::new(data(), 5);
        feed.restore(3, &feed.state()).unwrap();
        let zero = Tensor::zeros(1, candle_core::DType::U8, &candle_core::Device::Cpu).unwrap();
        let error = feed.restore(3, &BTreeMap::from([("queue.step".to_owned(), zero)])).unwrap_err().to_string();
        assert!(error.starts_with("queue.step: drawing straight from the data keeps no state"), "{error}");
    }

    #[test]
    fn an_epoch_holds_each_image_once_and_the_next_has_another_order() {
        let mut batches = DirectBatches::new(data(), 3);
        let mut ids: Vec<u64> = (0..5).flat_map(|step| batches.next(step, 8).unwrap().ids).collect();
        let second = ids.split_off(20);
        assert_ne!(ids, second);
        for mut epoch in [ids, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_batch_is_a_function_of_seed_and_step() {
        let data = data();
        let batch = |seed, step| DirectBatches::new(Arc::clone(&data), seed).next(step, 6).unwrap();
        let mut straight = DirectBatches::new(Arc::clone(&data), 3);
        for step in 0..9 {
            assert_eq!(straight.next(step, 6).unwrap(), batch(3, step));
        }
        assert_ne!(batch(3, 0), batch(4, 0));
        let LabelledBatch { images, labels, ids } = batch(3, 2);
        assert_eq!(numbers(&images), ids);
        assert!(labels.iter().zip(ids).all(|(&label, id)| label == usize::from(id >= 3)));
    }

    #[test]
    fn threads_do_not_change_what_is_drawn() {
        let augment = Augment { crop: Crop::Random, flip: true, ..Augment::default() };
        let source = Arc::new(super::super::DataSource::default().open(FASHION).unwrap().0);
        let images = || Arc::new(Images::new(source.clone(), FASHION, augment, 1).unwrap());
        let loader = |workers| LoaderSettings { workers: Some(workers), ahead: 3 };
        let request = Request { classes: 3, positives: 4, unconditional: 2 };
        let steps = |workers| -> Vec<StepData> {
            let mut feed = DirectFeed::of(images(), loader(workers), 1);
            (2..12).map(|step| feed.next(step, request).unwrap()).collect()
        };
        let batches = |workers| -> Vec<LabelledBatch> {
            let mut batches = DirectBatches::of(images(), loader(workers), 1);
            (2..12).map(|step| batches.next(step, 9).unwrap()).collect()
        };
        assert_eq!(steps(3), steps(0));
        assert_eq!(batches(3), batches(0));
        // The same image is another crop in the next draw.
        let mut batches = DirectBatches::of(images(), loader(0), 1);
        let (first, second) = (batches.next(0, 5000).unwrap(), batches.next(1, 5000).unwrap());
        let place = second.ids.iter().position(|id| *id == first.ids[0]).unwrap();
        assert_ne!(first.images[..784], second.images[place * 784..(place + 1) * 784]);
    }
}
