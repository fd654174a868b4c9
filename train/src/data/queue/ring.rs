//! A ring buffer of samples.

use std::sync::Arc;

use drifting_spec::Stream;

use super::holding::Queued;
use crate::data::sampler::draw;

/// The latest samples, at most `capacity`. They are shared with the other queues that hold them.
#[derive(Debug)]
pub(super) struct Ring {
    capacity: usize,
    slots: Vec<Arc<Queued>>,
    /// The slot that the next sample takes.
    cursor: usize,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, slots: Vec::new(), cursor: 0 }
    }

    /// A ring of these slots; `None` when they are too many or the cursor is not where pushing leaves it.
    pub(super) fn restored(capacity: usize, slots: Vec<Arc<Queued>>, cursor: usize) -> Option<Self> {
        let right = match slots.len() == capacity {
            true => cursor < capacity,
            false => slots.len() < capacity && cursor == slots.len(),
        };
        right.then_some(Self { capacity, slots, cursor })
    }

    /// Takes up a sample in the place of the oldest one.
    pub(super) fn push(&mut self, sample: Arc<Queued>) {
        match self.slots.get_mut(self.cursor) {
            Some(slot) => *slot = sample,
            None => self.slots.push(sample),
        }
        self.cursor = (self.cursor + 1) % self.capacity.max(1);
    }

    pub(super) fn slots(&self) -> &[Arc<Queued>] {
        &self.slots
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Slots of `count` samples: different ones if there are enough, otherwise each drawn from all of them.
    pub(super) fn draw(&self, stream: &mut Stream, count: usize) -> Vec<usize> {
        draw(stream, self.slots.len(), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Draw;

    fn sample(number: u64) -> Arc<Queued> {
        let draw = Draw { index: 0, number };
        Arc::new(Queued { draw, label: 0, values: None })
    }

    fn numbers(ring: &Ring) -> Vec<u64> {
        ring.slots().iter().map(|sample| sample.draw.number).collect()
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut ring = Ring::new(3);
        (0..3).for_each(|number| ring.push(sample(number)));
        assert_eq!((numbers(&ring), ring.cursor()), (vec![0, 1, 2], 0));
        (3..5).for_each(|number| ring.push(sample(number)));
        assert_eq!((numbers(&ring), ring.cursor()), (vec![3, 4, 2], 2));
        let mut again = Ring::restored(3, ring.slots().to_vec(), ring.cursor()).unwrap();
        again.push(sample(5));
        assert_eq!(numbers(&again), [3, 4, 5]);
        assert!(Ring::restored(3, ring.slots().to_vec(), 3).is_none());
        assert!(Ring::restored(2, ring.slots().to_vec(), 0).is_none());
        assert!(Ring::restored(4, ring.slots().to_vec(), 1).is_none());
    }

    #[test]
    fn draws_repeat_only_when_the_ring_holds_too_few() {
        let mut ring = Ring::new(8);
        assert!(ring.draw(&mut Stream::new(1, "test", 0), 3).is_empty());
        (0..5).for_each(|number| ring.push(sample(number)));
        for index in 0..50 {
            let mut drawn = ring.draw(&mut Stream::new(1, "test", index), 5);
            drawn.sort_unstable();
            assert_eq!(drawn, [0, 1, 2, 3, 4]);
            assert_eq!(ring.draw(&mut Stream::new(1, "test", index), 6).len(), 6);
        }
    }
}
