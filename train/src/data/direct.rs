//! Drawing straight from data in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use drifting_spec::Stream;

use super::feed::{DataInfo, Feed, FeedCounters, LabelledBatch, LabelledBatches, Request, StepData};
use super::{Counts, DataError, Dataset, Result, Sampler};

/// Draws the classes and images of each step from the whole data set, as a function of (seed, step).
#[derive(Debug)]
pub struct DirectFeed {
    data: Arc<Dataset>,
    info: DataInfo,
    seed: u64,
    counters: FeedCounters,
}

impl DirectFeed {
    /// A feed of `data`.
    #[must_use]
    pub fn new(data: Arc<Dataset>, seed: u64) -> Self {
        let info = data.info();
        Self { data, info, seed, counters: FeedCounters::default() }
    }
}

impl Feed for DirectFeed {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn next(&mut self, step: u64, request: Request) -> Result<StepData> {
        let sampler = Sampler::new(&self.data, self.seed);
        let classes = sampler.classes(step, request.classes);
        let counts = Counts { positives: request.positives, unconditional: request.unconditional };
        let drawn = sampler.draw(step, &classes, counts);
        let counters = &mut self.counters;
        counters.drawn += (drawn.positives.len() + drawn.unconditional.len()) as u64;
        let held = classes.iter().map(|&class| (self.data.of_class(class).len(), request.positives));
        for (held, wanted) in held.chain(classes.iter().map(|_| (self.data.len(), request.unconditional))) {
            counters.underflows += u64::from(wanted > held);
            counters.repeated += wanted.saturating_sub(held) as u64;
        }
        let ids = drawn.positives.iter().chain(&drawn.unconditional).map(|&index| index as u64).collect();
        let positives = self.data.images(&drawn.positives);
        let unconditional = self.data.images(&drawn.unconditional);
        Ok(StepData { classes, positives, unconditional, ids })
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    fn restore(&mut self, _step: u64, state: &BTreeMap<String, Tensor>) -> Result<()> {
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

/// Goes through the data in an order that is a function of (seed, epoch), each image once an epoch; an epoch's last
/// batch ends with the first images of the next epoch.
#[derive(Debug)]
pub struct Epochs {
    seed: u64,
    len: usize,
    epoch: u64,
    order: Vec<usize>,
}

impl Epochs {
    /// The orders of `len` images.
    #[must_use]
    pub fn new(seed: u64, len: usize) -> Self {
        Self { seed, len, epoch: u64::MAX, order: Vec::new() }
    }

    /// The index of the image that comes at `position` in the endless sequence of epochs; 0 when there are none.
    pub fn at(&mut self, position: u64) -> usize {
        let len = self.len.max(1) as u64;
        let (epoch, place) = (position / len, (position % len) as usize);
        if epoch != self.epoch {
            self.order = Stream::new(self.seed, "data.epoch", epoch).choose(self.len, self.len);
            self.epoch = epoch;
        }
        self.order.get(place).copied().unwrap_or_default()
    }
}

/// Labelled batches of data in memory.
#[derive(Debug)]
pub struct DirectBatches {
    data: Arc<Dataset>,
    info: DataInfo,
    epochs: Epochs,
}

impl DirectBatches {
    /// Batches of `data`.
    #[must_use]
    pub fn new(data: Arc<Dataset>, seed: u64) -> Self {
        let (info, epochs) = (data.info(), Epochs::new(seed, data.len()));
        Self { data, info, epochs }
    }
}

impl LabelledBatches for DirectBatches {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn next(&mut self, step: u64, count: usize) -> Result<LabelledBatch> {
        let first = step * count as u64;
        let indices: Vec<usize> = (0..count as u64).map(|offset| self.epochs.at(first + offset)).collect();
        Ok(LabelledBatch {
            images: self.data.images(&indices),
            labels: indices.iter().map(|&index| self.data.labels()[index]).collect(),
            ids: indices.iter().map(|&index| index as u64).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::ImageShape;

    use super::super::Batch;
    use super::*;

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
        let batch = Sampler::new(&data, 5).batch(7, &[0, 1], Counts { positives: 4, unconditional: 3 });
        assert_eq!(step.classes, [0, 1]);
        assert_eq!(Batch { positives: step.positives.clone(), unconditional: step.unconditional.clone() }, batch);
        assert_eq!(step.ids, [numbers(&step.positives), numbers(&step.unconditional)].concat());
        let counters = FeedCounters { drawn: 14, underflows: 1, repeated: 1, ..FeedCounters::default() };
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
}
