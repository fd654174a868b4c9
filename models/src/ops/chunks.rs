//! Results that tasks write chunk by chunk.

use rayon::prelude::*;

/// `len` numbers in chunks of `chunk`, the last one perhaps shorter. `task` gets what `init` makes for each thread's share, the
/// chunk's index, and the chunk, which is zero: cleared by the thread that writes it, while it is in that thread's cache.
pub(super) fn in_chunks<T>(
    len: usize,
    chunk: usize,
    init: impl Fn() -> T + Sync + Send,
    task: impl Fn(&mut T, usize, &mut [f32]) + Sync + Send,
) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    let chunks = values.spare_capacity_mut()[..len].par_chunks_mut(chunk.max(1));
    chunks.enumerate().for_each_init(init, |state, (index, chunk)| {
        for number in &mut *chunk {
            number.write(0.0);
        }
        // SAFETY: every number of the chunk was written just before.
        #[allow(unsafe_code, reason = "clearing the memory beforehand would take it through the caches twice")]
        let chunk = unsafe { chunk.assume_init_mut() };
        task(state, index, chunk);
    });
    // SAFETY: the chunks are all of the first `len` numbers, the capacity is at least as large, and each chunk was written.
    #[allow(unsafe_code, reason = "as above")]
    unsafe {
        values.set_len(len);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_cleared_and_written_once() {
        for (len, chunk) in [(0, 3), (1, 3), (9, 3), (10, 3), (5, 0), (100_000, 77)] {
            let values = in_chunks(
                len,
                chunk,
                || 1.0,
                |one, index, values| {
                    assert!(values.iter().all(|value| *value == 0.0));
                    values.fill(*one + index as f32);
                },
            );
            let expected: Vec<f32> = (0..len).map(|i| 1.0 + (i / chunk.max(1)) as f32).collect();
            assert_eq!(values, expected);
        }
    }
}
