//! The order of images.

use std::sync::{Arc, Mutex, PoisonError};

use drifting_spec::Stream;

use super::Draw;

/// Orders that are kept: threads that read ahead may be an epoch apart.
const KEPT: usize = 2;

/// An endless sequence of epochs: each goes through all images once, in an order that is a function of (seed, epoch).
#[derive(Debug)]
pub struct Epochs {
    seed: u64,
    len: usize,
    orders: Mutex<Vec<(u64, Arc<Vec<usize>>)>>,
}

impl Epochs {
    /// The orders of `len` images.
    #[must_use]
    pub fn new(seed: u64, len: usize) -> Self {
        Self { seed, len, orders: Mutex::new(Vec::new()) }
    }

    /// The `count` images from `first` on in the sequence; each draw has its place as its number. None of no images.
    #[must_use]
    pub fn draws(&self, first: u64, count: usize) -> Vec<Draw> {
        let len = self.len as u64;
        let mut draws = Vec::with_capacity(count);
        let (mut number, end) = (first, first + count as u64);
        while number < end && len > 0 {
            let (order, start) = (self.order(number / len), (number % len) as usize);
            let stop = order.len().min(start + (end - number) as usize);
            draws.extend(order[start..stop].iter().zip(number..).map(|(&index, number)| Draw { index, number }));
            number += (stop - start) as u64;
        }
        draws
    }

    fn order(&self, epoch: u64) -> Arc<Vec<usize>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = orders.iter().find(|(kept, _)| *kept == epoch) {
            return Arc::clone(order);
        }
        let order = Arc::new(Stream::new(self.seed, "data.epoch", epoch).choose(self.len, self.len));
        if orders.len() == KEPT {
            orders.remove(0);
        }
        orders.push((epoch, Arc::clone(&order)));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_each_image_once_wherever_it_is_cut() {
        let epochs = Epochs::new(7, 10);
        let all = epochs.draws(0, 40);
        assert_eq!(all.iter().map(|draw| draw.number).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
        for epoch in all.chunks(10) {
            let mut indices: Vec<usize> = epoch.iter().map(|draw| draw.index).collect();
            indices.sort_unstable();
            assert_eq!(indices, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(all[0].index * 10 + all[1].index, all[10].index * 10 + all[11].index);
        assert_eq!(epochs.draws(7, 25), all[7..32]);
        assert!(Epochs::new(7, 0).draws(0, 3).is_empty());
    }
}
