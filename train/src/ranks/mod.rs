//! Processes that take a step together: each has some of the class groups, all have the same weights.
//!
//! Class groups meet in two places only: in the means that scales are made of, which are gathered group by group in the order of
//! the groups, and in the gradient, which is added up while the way back goes on. So N ranks compute what one would, but for the order in which gradients
//! are added.

#[cfg(feature = "nccl")]
mod gpus;
#[cfg(feature = "mpi")]
mod mpi;
mod on_thread;
mod share;
mod sums;
#[cfg(test)]
mod threads;

use std::fmt::Debug;

use candle_core::{Device, Result};

#[cfg(feature = "mpi")]
pub use self::mpi::Mpi;
pub use self::on_thread::{OnThread, Waits};
pub use self::share::Share;
pub(crate) use self::sums::Buckets;
use self::sums::Same;
pub use self::sums::Sums;
#[cfg(test)]
pub(crate) use self::threads::together;

/// The processes of a run. What a rank calls, all others must call too, in the same order.
pub trait Ranks: Debug {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// The numbers of all ranks, one rank after the other; they need not be equally many.
    fn gather(&self, mine: &[f64]) -> Vec<f64>;

    /// What adds up tensors of all ranks, number by number, while this rank goes on; each rank receives the same sums.
    ///
    /// # Errors
    /// The ranks' devices cannot be joined.
    fn sums(&self, device: &Device) -> Result<Box<dyn Sums>>;

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

    fn sums(&self, _: &Device) -> Result<Box<dyn Sums>> {
        Ok(Box::new(Same::default()))
    }

    fn exchange(&self, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        messages
    }

    fn abort(&self) -> ! {
        std::process::exit(1)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Tensor};

    use super::sums::BUCKET;
    use super::*;

    /// Adds up tensors over all ranks.
    fn sum_tensors(ranks: &dyn Ranks, tensors: &[Tensor]) -> candle_core::Result<Vec<Tensor>> {
        let mut buckets = Buckets::new(ranks, tensors[0].device())?;
        tensors.iter().try_for_each(|tensor| buckets.add(tensor))?;
        buckets.finish()
    }

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
    fn tensors_are_added_up_whatever_their_sizes() {
        let shapes = [[3, 1], [BUCKET - 2, 1], [BUCKET + 5, 1], [1, 1], [2, 7], [2, BUCKET]];
        let found = together(3, |ranks| {
            let value = |tensor: usize, i: usize| ((tensor + i) % 17) as f32 * (ranks.rank() + 1) as f32;
            let tensors = shapes.iter().enumerate().map(|(tensor, shape)| {
                let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| value(tensor, i)).collect();
                Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
            });
            sum_tensors(ranks, &tensors.collect::<Vec<_>>()).unwrap()
        });
        for sums in found {
            assert_eq!(sums.len(), shapes.len());
            for (tensor, sum) in sums.iter().enumerate() {
                assert_eq!(sum.dims(), shapes[tensor]);
                let values = sum.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert!(values.iter().enumerate().all(|(i, &v)| v == ((tensor + i) % 17) as f32 * 6.0), "{tensor}");
            }
        }
        let alone = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(sum_tensors(&Alone, &[alone]).unwrap()[0].to_vec1::<f32>().unwrap(), [1.0; 3]);
    }
}
