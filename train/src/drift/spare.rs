//! Memory for numbers that are all written before they are read, used again without being cleared.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Vectors that a thread has in stock at most.
const STOCK: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Some numbers, whatever they were before.
#[derive(Debug, Default)]
pub(super) struct Spare {
    numbers: Vec<f32>,
    len: usize,
}

impl Spare {
    /// As many as `len`: of the vectors in stock the shortest that is long enough, else a new one in place of the longest.
    pub(super) fn of(len: usize) -> Self {
        if len == 0 {
            return Self::default();
        }
        let found = SPARE.with_borrow_mut(|stock| {
            let length = |&index: &usize| stock[index].len();
            let fitting = (0..stock.len()).filter(|index| length(index) >= len).min_by_key(length);
            let taken = fitting.or_else(|| (0..stock.len()).max_by_key(length))?;
            Some(stock.swap_remove(taken))
        });
        let fitting = found.filter(|numbers| numbers.len() >= len);
        Self { numbers: fitting.unwrap_or_else(|| vec![0.0; len]), len }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        if numbers.is_empty() {
            return;
        }
        // At the end of a thread there is no stock any more.
        let _ = SPARE.try_with(|stock| {
            let Ok(mut stock) = stock.try_borrow_mut() else { return };
            stock.push(numbers);
            if stock.len() > STOCK {
                let shortest = (0..stock.len()).min_by_key(|&index| stock[index].len());
                shortest.map(|index| stock.swap_remove(index));
            }
        });
    }
}

impl Deref for Spare {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[..self.len]
    }
}

impl DerefMut for Spare {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.len]
    }
}

/// As many numbers as `len` of `memory`, whatever they were before.
pub(super) fn some(memory: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    &mut memory[..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread of its own has no other tests' numbers in stock.
    #[test]
    fn the_shortest_that_is_long_enough_is_used_again() {
        let test = || {
            let (mut long, mut short) = (Spare::of(100), Spare::of(10));
            long.fill(1.0);
            short.fill(2.0);
            drop((long, short));
            let again = Spare::of(5);
            assert_eq!(*again, [2.0; 5]);
            assert_eq!(*Spare::of(6), [1.0; 6]);
            assert_eq!(*Spare::of(100), [1.0; 100]);
            assert_eq!(Spare::of(0).len(), 0);
            drop(again);
            assert_eq!(*Spare::of(1000), [0.0; 1000]);
            let lengths = || SPARE.with_borrow(|stock| stock.iter().map(Vec::len).collect::<Vec<_>>());
            assert_eq!(lengths(), [10, 1000]);
            let kept: Vec<Spare> = (0..10).map(Spare::of).collect();
            drop(kept);
            assert_eq!(lengths().len(), STOCK);
        };
        std::thread::spawn(test).join().unwrap();
    }
}
