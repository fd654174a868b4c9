//! Processes that take a step together: each has some of the class groups, all have the same weights.
//!
//! Class groups meet in two places only: in the means that scales are made of, which are gathered group by group in the order of
//! the groups, and in the gradient, which is added up. So N ranks compute what one would, but for the order in which gradients
//! are added.

#[cfg(feature = "mpi")]
mod mpi;
mod share;
#[cfg(test)]
mod threads;

use std::fmt::Debug;

#[cfg(feature = "mpi")]
pub use self::mpi::Mpi;
pub use self::share::Share;
#[cfg(test)]
pub(crate) use self::threads::together;

/// Numbers that are added up at once.
const BUCKET: usize = 1 << 22;

/// The processes of a run. What a rank calls, all others must call too, in the same order.
pub trait Ranks: Debug {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// The numbers of all ranks, one rank after the other; they need not be equally many.
    fn gather(&self, mine: &[f64]) -> Vec<f64>;

    /// Adds up the numbers of all ranks, number by number; each rank receives the same.
    fn sum(&self, values: &mut [f32]);

    /// Hands every rank a message, and receives one from each: `messages[i]` goes to rank i, and rank i's comes in its place.
    fn exchange(&self, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>>;

    /// Ends all ranks with an error.
    fn abort(&self) -> !;
}

/// The one rank of a run in one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&self, mine: &[f64]) -> Vec<f64> {
        mine.to_vec()
    }

    fn sum(&self, _: &mut [f32]) {}

    fn exchange(&self, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        messages
    }

    fn abort(&self) -> ! {
        std::process::exit(1)
    }
}

/// Adds up lists of numbers over all ranks, in buckets that hold several short lists or part of a long one.
pub(crate) fn sum_lists(ranks: &dyn Ranks, lists: &mut [&mut [f32]]) {
    if ranks.size() == 1 {
        return;
    }
    let mut bucket = Vec::with_capacity(BUCKET);
    let mut first = (0, 0);
    while first.0 < lists.len() {
        // Where the bucket ends: a list and a place in it.
        let (mut last, mut room) = (first, BUCKET);
        bucket.clear();
        while last.0 < lists.len() && room > 0 {
            let part = &lists[last.0][last.1..];
            let taken = part.len().min(room);
            bucket.extend_from_slice(&part[..taken]);
            room -= taken;
            last = if taken == part.len() { (last.0 + 1, 0) } else { (last.0, last.1 + taken) };
        }
        ranks.sum(&mut bucket);
        let mut rest = &bucket[..];
        while !rest.is_empty() {
            let part = &mut lists[first.0][first.1..];
            let (here, after) = rest.split_at(part.len().min(rest.len()));
            part[..here.len()].copy_from_slice(here);
            first = if here.len() == part.len() { (first.0 + 1, 0) } else { (first.0, first.1 + here.len()) };
            rest = after;
        }
        first = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_whom_they_are_for() {
        let message = |from: usize, to: usize| vec![(10 * from + to) as u8; 3 * from + to];
        let found = together(3, |ranks| ranks.exchange((0..3).map(|to| message(ranks.rank(), to)).collect()));
        for (rank, received) in found.into_iter().enumerate() {
            assert_eq!(received, (0..3).map(|from| message(from, rank)).collect::<Vec<_>>());
        }
        assert_eq!(Alone.exchange(vec![message(1, 1)]), [message(1, 1)]);
    }

    #[test]
    fn lists_are_added_up_whatever_their_lengths() {
        let lengths = [3, 0, BUCKET - 2, BUCKET + 5, 1, 0, 2 * BUCKET];
        let found = together(3, |ranks| {
            let value = |list: usize, i: usize| ((list + i) % 17) as f32 * (ranks.rank() + 1) as f32;
            let mut lists: Vec<Vec<f32>> =
                lengths.iter().enumerate().map(|(list, &len)| (0..len).map(|i| value(list, i)).collect()).collect();
            let mut parts: Vec<&mut [f32]> = lists.iter_mut().map(|list| &mut list[..]).collect();
            sum_lists(ranks, &mut parts);
            lists
        });
        for lists in found {
            for (list, values) in lists.iter().enumerate() {
                assert_eq!(values.len(), lengths[list]);
                assert!(values.iter().enumerate().all(|(i, &value)| value == ((list + i) % 17) as f32 * 6.0), "{list}");
            }
        }
    }
}
