//! Processes that take a step together: each has some of the class groups, all have the same weights.
//!
//! Class groups meet in two places only: in the means that scales are made of, which are gathered group by group in the order of
//! the groups, and in the gradient, which is added up. So N ranks compute what one would, but for the order in which gradients
//! are added.

#[cfg(feature = "nccl")]
mod gpus;
#[cfg(feature = "mpi")]
mod mpi;
mod share;
#[cfg(test)]
mod threads;

use std::fmt::Debug;

use candle_core::{Result, Tensor};

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

    /// As [`sum`](Self::sum), of a tensor that nothing else holds; false where its numbers have to pass through the host.
    ///
    /// # Errors
    /// The tensor's device fails.
    fn sum_in_place(&self, _: &Tensor) -> Result<bool> {
        Ok(false)
    }

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

/// Adds up tensors over all ranks, in buckets that hold several small ones or a large one.
///
/// # Errors
/// The tensors' device fails.
pub(crate) fn sum_tensors(ranks: &dyn Ranks, tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
    if ranks.size() == 1 {
        return Ok(tensors);
    }
    let mut sums = Vec::with_capacity(tensors.len());
    let mut bucket = Vec::new();
    let mut tensors = tensors.into_iter().peekable();
    while let Some(tensor) = tensors.next() {
        bucket.push(tensor);
        let numbers: usize = bucket.iter().map(Tensor::elem_count).sum();
        if tensors.peek().is_none_or(|next| numbers + next.elem_count() > BUCKET) {
            sums.extend(sum_bucket(ranks, std::mem::take(&mut bucket))?);
        }
    }
    Ok(sums)
}

fn sum_bucket(ranks: &dyn Ranks, tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let (shapes, device) = (tensors.iter().map(|t| t.shape().clone()).collect::<Vec<_>>(), tensors[0].device().clone());
    let flat = tensors.into_iter().map(|tensor| tensor.flatten_all()).collect::<Result<Vec<_>>>()?;
    // Of one tensor, the same one comes back.
    let mut sum = if flat.len() == 1 { flat[0].copy()? } else { Tensor::cat(&flat, 0)? };
    drop(flat);
    if !ranks.sum_in_place(&sum)? {
        let mut values = sum.to_vec1::<f32>()?;
        ranks.sum(&mut values);
        sum = Tensor::from_vec(values, sum.shape(), &device)?;
    }
    let mut first = 0;
    let parts = shapes.into_iter().map(|shape| {
        let part = sum.narrow(0, first, shape.elem_count())?.reshape(&shape);
        first += shape.elem_count();
        part
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

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
    fn tensors_are_added_up_whatever_their_sizes() {
        let shapes = [[3, 1], [BUCKET - 2, 1], [BUCKET + 5, 1], [1, 1], [2, 7], [2, BUCKET]];
        let found = together(3, |ranks| {
            let value = |tensor: usize, i: usize| ((tensor + i) % 17) as f32 * (ranks.rank() + 1) as f32;
            let tensors = shapes.iter().enumerate().map(|(tensor, shape)| {
                let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| value(tensor, i)).collect();
                Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
            });
            sum_tensors(ranks, tensors.collect()).unwrap()
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
        assert_eq!(sum_tensors(&Alone, vec![alone]).unwrap()[0].to_vec1::<f32>().unwrap(), [1.0; 3]);
    }
}
