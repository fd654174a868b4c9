//! The state of the queues in a checkpoint.
//!
//! An image is a function of its draw, so the draws are enough to fill the queues again; with `checkpoint = "samples"` the
//! images themselves are kept beside them.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::{QueueFeed, Queued, Ring};
use crate::config::QueueCheckpoint;
use crate::data::feed::FeedCounters;
use crate::data::{DataError, Draw, Result, Values};

/// Loader batches that were pushed.
const BATCHES: &str = "queue.batches";
const COUNTERS: &str = "queue.counters";
/// Samples that the queue of each class holds, and the slot that each fills next.
const HELD: &str = "queue.class.held";
const CURSOR: &str = "queue.class.cursor";
/// Slot after slot, class after class.
const INDEX: &str = "queue.class.index";
const NUMBER: &str = "queue.class.number";
const SAMPLES: &str = "queue.class.samples";
const GLOBAL_CURSOR: &str = "queue.global.cursor";
const GLOBAL_INDEX: &str = "queue.global.index";
const GLOBAL_NUMBER: &str = "queue.global.number";
const GLOBAL_SAMPLES: &str = "queue.global.samples";

pub(super) fn save(feed: &QueueFeed) -> Result<BTreeMap<String, Tensor>> {
    let mut state = BTreeMap::new();
    let mut put = |name: &str, numbers: Vec<i64>| -> Result<()> {
        let length = numbers.len();
        state.insert(name.to_owned(), Tensor::from_vec(numbers, length, &Device::Cpu)?);
        Ok(())
    };
    put(BATCHES, vec![feed.batches as i64])?;
    if feed.batches == 0 {
        return Ok(state);
    }
    let FeedCounters { drawn, underflows, repeated, pushed, replaced } = feed.counters;
    put(COUNTERS, [drawn, underflows, repeated, pushed, replaced].map(|count| count as i64).to_vec())?;
    let rings = || feed.classes.iter();
    let all = || rings().flat_map(|ring| ring.slots());
    put(HELD, rings().map(|ring| ring.slots().len() as i64).collect())?;
    put(CURSOR, rings().map(|ring| ring.cursor() as i64).collect())?;
    put(INDEX, all().map(|sample| sample.draw.index as i64).collect())?;
    put(NUMBER, all().map(|sample| sample.draw.number as i64).collect())?;
    put(GLOBAL_CURSOR, vec![feed.global.cursor() as i64])?;
    put(GLOBAL_INDEX, feed.global.slots().iter().map(|sample| sample.draw.index as i64).collect())?;
    put(GLOBAL_NUMBER, feed.global.slots().iter().map(|sample| sample.draw.number as i64).collect())?;
    if feed.settings.checkpoint == QueueCheckpoint::Samples {
        state.insert(SAMPLES.to_owned(), values(all())?);
        state.insert(GLOBAL_SAMPLES.to_owned(), values(feed.global.slots().iter())?);
    }
    Ok(state)
}

/// The samples row by row; all of a source are of one kind.
fn values<'a>(samples: impl Iterator<Item = &'a Arc<Queued>>) -> Result<Tensor> {
    let (mut bytes, mut numbers, mut count) = (Vec::new(), Vec::new(), 0);
    for sample in samples {
        count += 1;
        match &sample.values {
            Some(Values::Bytes(own)) => bytes.extend_from_slice(own),
            Some(Values::Numbers(own)) => numbers.extend_from_slice(own),
            None => return Err(DataError::Inconsistent("an image to be saved is held by another process".into())),
        }
    }
    let width = (bytes.len() + numbers.len()) / count.max(1);
    Ok(match numbers.is_empty() {
        true => Tensor::from_vec(bytes, (count, width), &Device::Cpu)?,
        false => Tensor::from_vec(numbers, (count, width), &Device::Cpu)?,
    })
}

pub(super) fn restore(feed: &mut QueueFeed, state: &BTreeMap<String, Tensor>) -> Result<()> {
    let saved = Saved { state };
    let batches = saved.single(BATCHES)?;
    let mut known = vec![BATCHES];
    if batches > 0 {
        known.extend([COUNTERS, HELD, CURSOR, INDEX, NUMBER, GLOBAL_CURSOR, GLOBAL_INDEX, GLOBAL_NUMBER]);
        if feed.settings.checkpoint == QueueCheckpoint::Samples {
            known.extend([SAMPLES, GLOBAL_SAMPLES]);
        }
    }
    if let Some(name) = state.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(wrong(name, "is not expected in the state of these queues (queue.checkpoint)"));
    }
    let (classes, global, counters) = match batches {
        0 => {
            let empty = feed.classes.iter().map(|_| Ring::new(feed.settings.per_class)).collect();
            (empty, Ring::new(feed.settings.global), FeedCounters::default())
        }
        _ => {
            let samples = read_samples(feed, &saved)?;
            (classes(feed, &saved, &samples)?, global(feed, &saved, &samples)?, saved.counters()?)
        }
    };
    (feed.classes, feed.global, feed.counters) = (classes, global, counters);
    feed.batches = batches as u64;
    feed.labels.clear();
    Ok(())
}

/// Every sample of the queues by the number of its draw: taken from the state, or read again where it is to be held.
fn read_samples(feed: &QueueFeed, saved: &Saved<'_>) -> Result<BTreeMap<u64, Arc<Queued>>> {
    let mut draws = BTreeMap::new();
    for (name, numbers, samples) in [(INDEX, NUMBER, SAMPLES), (GLOBAL_INDEX, GLOBAL_NUMBER, GLOBAL_SAMPLES)] {
        let rows = match feed.settings.checkpoint {
            QueueCheckpoint::Samples => Some(saved.rows(samples, feed.images.info().shape.len())?),
            QueueCheckpoint::Indices => None,
        };
        let (indices, numbers) = (saved.numbers(name, None)?, saved.numbers(numbers, None)?);
        if indices.len() != numbers.len() || rows.as_ref().is_some_and(|rows| rows.len() != indices.len()) {
            return Err(wrong(name, "has another length than the numbers or samples that go with it"));
        }
        for (row, (index, number)) in indices.into_iter().zip(numbers).enumerate() {
            let index = usize::try_from(index).ok().filter(|&index| index < feed.images.info().images);
            let Some(index) = index else { return Err(wrong(name, "names an image that the data do not have")) };
            let values = rows.as_ref().and_then(|rows| rows.get(row).cloned());
            draws.insert(number as u64, (Draw { index, number: number as u64 }, values));
        }
    }
    let draws: Vec<_> = draws.into_values().collect();
    let read = |(draw, values): (Draw, Option<Values>)| -> Result<(u64, Arc<Queued>)> {
        let label = feed.images.source().label(draw.index);
        let sample = match values {
            None if feed.holding.holds(label) => feed.images.read(draw)?.into(),
            values => Queued { draw, label, values },
        };
        Ok((draw.number, Arc::new(sample)))
    };
    draws.into_par_iter().map(read).collect()
}

fn classes(feed: &QueueFeed, saved: &Saved<'_>, samples: &BTreeMap<u64, Arc<Queued>>) -> Result<Vec<Ring>> {
    let count = feed.classes.len();
    let (held, cursors) = (saved.numbers(HELD, Some(count))?, saved.numbers(CURSOR, Some(count))?);
    let numbers = saved.numbers(NUMBER, None)?;
    let (mut rings, mut rest) = (Vec::with_capacity(count), numbers.as_slice());
    for (class, (held, cursor)) in held.into_iter().zip(cursors).enumerate() {
        let own = rest.split_at_checked(usize::try_from(held).unwrap_or(usize::MAX));
        let Some((own, others)) = own else { return Err(wrong(HELD, "asks for more samples than there are")) };
        rest = others;
        let slots: Vec<_> = own.iter().filter_map(|number| samples.get(&(*number as u64)).cloned()).collect();
        if slots.iter().any(|sample| sample.label != class) {
            return Err(wrong(INDEX, format!("puts an image of another class into the queue of class {class}")));
        }
        rings.push(ring(feed.settings.per_class, slots, cursor, CURSOR)?);
    }
    match rest.is_empty() {
        true => Ok(rings),
        false => Err(wrong(HELD, "asks for fewer samples than there are")),
    }
}

fn global(feed: &QueueFeed, saved: &Saved<'_>, samples: &BTreeMap<u64, Arc<Queued>>) -> Result<Ring> {
    let numbers = saved.numbers(GLOBAL_NUMBER, None)?;
    let slots = numbers.iter().filter_map(|number| samples.get(&(*number as u64)).cloned()).collect();
    ring(feed.settings.global, slots, saved.single(GLOBAL_CURSOR)?, GLOBAL_CURSOR)
}

fn ring(capacity: usize, slots: Vec<Arc<Queued>>, cursor: i64, name: &str) -> Result<Ring> {
    let held = slots.len();
    let ring = usize::try_from(cursor).ok().and_then(|cursor| Ring::restored(capacity, slots, cursor));
    ring.ok_or_else(|| wrong(name, format!("{cursor} with {held} samples does not fit a queue of {capacity}")))
}

fn wrong(name: &str, problem: impl Into<String>) -> DataError {
    DataError::State { name: name.to_owned(), problem: problem.into() }
}

/// The tensors of a checkpoint.
struct Saved<'a> {
    state: &'a BTreeMap<String, Tensor>,
}

impl Saved<'_> {
    fn get(&self, name: &str) -> Result<&Tensor> {
        self.state.get(name).ok_or_else(|| wrong(name, "is not in the checkpoint, which was made without these queues"))
    }

    fn numbers(&self, name: &str, length: Option<usize>) -> Result<Vec<i64>> {
        let numbers = self.get(name)?.to_vec1::<i64>().map_err(|error| wrong(name, error.to_string()))?;
        match length {
            Some(length) if length != numbers.len() => {
                Err(wrong(name, format!("has {} numbers, expected {length}", numbers.len())))
            }
            _ => Ok(numbers),
        }
    }

    fn single(&self, name: &str) -> Result<i64> {
        let number = self.numbers(name, Some(1))?.first().copied().unwrap_or_default();
        if number < 0 { Err(wrong(name, format!("is {number}, expected 0 or more"))) } else { Ok(number) }
    }

    fn counters(&self) -> Result<FeedCounters> {
        let counts = self.numbers(COUNTERS, Some(5))?;
        let &[drawn, underflows, repeated, pushed, replaced] = counts.as_slice() else {
            return Ok(FeedCounters::default());
        };
        let [drawn, underflows, repeated, pushed, replaced] =
            [drawn, underflows, repeated, pushed, replaced].map(|count| count as u64);
        Ok(FeedCounters { drawn, underflows, repeated, pushed, replaced })
    }

    fn rows(&self, name: &str, width: usize) -> Result<Vec<Values>> {
        let tensor = self.get(name)?;
        let (_, found) = tensor.dims2().map_err(|error| wrong(name, error.to_string()))?;
        if found != width {
            return Err(wrong(name, format!("has samples of {found} numbers, expected {width}")));
        }
        match tensor.dtype() {
            candle_core::DType::U8 => Ok(tensor.to_vec2::<u8>()?.into_iter().map(Values::Bytes).collect()),
            _ => Ok(tensor.to_vec2::<f32>()?.into_iter().map(Values::Numbers).collect()),
        }
    }
}
