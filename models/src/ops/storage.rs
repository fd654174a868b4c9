//! Access to the f32 values behind a tensor on the CPU.

use std::fmt::{self, Debug, Formatter};
use std::mem::MaybeUninit;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

/// Numbers of a piece of [`written`] where nothing else decides: the caches next to the processor hold a few of them.
pub const PIECE: usize = 1 << 13;

/// The values that an operation's argument names; it must be contiguous f32.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values: &[f32] = storage.as_slice()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("expected a contiguous tensor, got {:?}", layout.shape()),
    }
}

/// The values of a contiguous f32 tensor on the CPU, borrowed.
pub struct Values<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    range: Range<usize>,
}

impl<'a> Values<'a> {
    /// Borrows them.
    ///
    /// # Errors
    /// A tensor that is not contiguous, not f32 or on another device.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, got {:?}", layout.shape())
        };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(_)) => Ok(Self { storage: Box::new(storage), range: start..end }),
            _ => bail!("expected an f32 tensor on the CPU, got {:?} on {:?}", tensor.dtype(), tensor.device()),
        }
    }
}

impl Debug for Values<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").field("range", &self.range).finish()
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            // `of` admits nothing else.
            _ => &[],
        }
    }
}

/// `N` vectors of `len` numbers, written in pieces of `piece` on all threads: `write` gets where a piece begins and the piece
/// of every vector, full of zeros. They never leave the cache before they are overwritten, unlike those of `vec![0.0; len]`.
pub fn written<const N: usize>(
    len: usize,
    piece: usize,
    write: impl Fn(usize, [&mut [f32]; N]) + Sync,
) -> [Vec<f32>; N] {
    written_with(len, piece, || (), |(), start, pieces| write(start, pieces))
}

/// As [`written`]; `write` also gets what `init` makes for each thread's share.
pub(super) fn written_with<T, const N: usize>(
    len: usize,
    piece: usize,
    init: impl Fn() -> T + Sync + Send,
    write: impl Fn(&mut T, usize, [&mut [f32]; N]) + Sync,
) -> [Vec<f32>; N] {
    let piece = piece.max(1);
    let mut vectors = [(); N].map(|()| Vec::with_capacity(len));
    let mut rest = vectors.each_mut().map(|vector| vector.spare_capacity_mut()[..len].chunks_mut(piece));
    let one = |state: &mut T, (i, pieces): (usize, [&mut [MaybeUninit<f32>]; N])| {
        write(state, i * piece, pieces.map(zeroed));
    };
    let count = len.div_ceil(piece);
    let pieces = (0..count).map(|i| (i, rest.each_mut().map(|pieces| pieces.next().unwrap_or_default())));
    if count == 1 {
        let mut state = init();
        pieces.for_each(|piece| one(&mut state, piece));
    } else {
        pieces.collect::<Vec<_>>().into_par_iter().for_each_init(init, one);
    }
    for vector in &mut vectors {
        // SAFETY: `len` numbers have room, and the pieces, of which every one was zeroed, are all of them.
        #[allow(unsafe_code, reason = "memory would be written twice otherwise")]
        unsafe {
            vector.set_len(len);
        }
    }
    vectors
}

/// `[rows, tasks, piece]` numbers by all threads: of each `block` rows, `write` gets the number of a task (of all blocks) and its
/// piece of every row, full of zeros. Also gives what it gave.
///
/// # Panics
/// Rows that are no whole blocks.
pub fn written_across<R: Send>(
    (rows, tasks, piece): (usize, usize, usize),
    block: usize,
    write: impl Fn(usize, &mut [&mut [f32]]) -> R + Sync,
) -> (Vec<f32>, Vec<R>) {
    let len = rows * tasks * piece;
    let mut numbers = Vec::with_capacity(len);
    if len == 0 {
        return (numbers, Vec::new());
    }
    assert!(rows.is_multiple_of(block), "{rows} rows in blocks of {block}");
    let mut pieces: Vec<_> = (0..rows / block * tasks).map(|_| Vec::with_capacity(block)).collect();
    for (row, numbers) in numbers.spare_capacity_mut()[..len].chunks_exact_mut(tasks * piece).enumerate() {
        let pieces = pieces[row / block * tasks..].iter_mut();
        pieces.zip(numbers.chunks_exact_mut(piece)).for_each(|(pieces, piece)| pieces.push(piece));
    }
    let one = |(task, pieces): (usize, Vec<_>)| write(task, &mut pieces.into_iter().map(zeroed).collect::<Vec<_>>());
    let given = pieces.into_par_iter().enumerate().map(one).collect();
    // SAFETY: `len` numbers have room, and the pieces, of which every one was zeroed, are all of them.
    #[allow(unsafe_code, reason = "memory would be written twice otherwise")]
    unsafe {
        numbers.set_len(len);
    }
    (numbers, given)
}

fn zeroed(piece: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    piece.fill(MaybeUninit::new(0.0));
    // SAFETY: all of it was written just now.
    #[allow(unsafe_code, reason = "memory would be written twice otherwise")]
    unsafe {
        piece.assume_init_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_of_every_row_is_written_by_its_task() {
        for (rows, tasks, piece, block) in [(0, 3, 2, 1), (6, 1, 1, 3), (4, 3, 5, 2), (4, 3, 5, 1), (4, 2, 3, 4)] {
            let (numbers, given) = written_across((rows, tasks, piece), block, |task, pieces| {
                assert_eq!(pieces.len(), block);
                for (row, piece) in pieces.iter_mut().enumerate() {
                    piece.iter_mut().for_each(|number| *number += (10 * task + row) as f32);
                }
                task
            });
            assert_eq!(given, (0..rows / block * tasks).collect::<Vec<_>>());
            assert_eq!(numbers.len(), rows * tasks * piece);
            for (at, &number) in numbers.iter().enumerate() {
                let (row, task) = (at / piece / tasks, at / piece % tasks);
                assert_eq!(number, (10 * (row / block * tasks + task) + row % block) as f32);
            }
        }
    }

    #[test]
    fn every_piece_is_written() {
        for (len, piece) in [(0, 4), (1, 4), (4, 4), (23, 4), (5, 1)] {
            let [ones, places] = written(len, piece, |start, [ones, places]| {
                assert!(places.iter().all(|&place| place == 0.0) && places.len() <= piece);
                ones.fill(1.0);
                places.iter_mut().enumerate().for_each(|(i, place)| *place = (start + i) as f32);
            });
            assert_eq!(ones, vec![1.0; len]);
            assert_eq!(places, (0..len).map(|i| i as f32).collect::<Vec<_>>());
        }
        let [nothing] = written(0, 0, |_, [_]| ());
        assert!(nothing.is_empty());
        let [sums] = written_with(1000, 7, || 1.0, |one, start, [sums]| sums.fill(*one + start as f32));
        assert_eq!(sums, (0..1000).map(|i| 1.0 + (i / 7 * 7) as f32).collect::<Vec<_>>());
    }
}
