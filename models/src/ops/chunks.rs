//! Results that tasks write chunk by chunk.

use super::storage::written_with;

/// `len` numbers in chunks of `chunk`, the last one perhaps shorter. `task` gets what `init` makes for each thread's share, the
/// chunk's index, and the chunk, which is zero.
pub(super) fn in_chunks<T>(
    len: usize,
    chunk: usize,
    init: impl Fn() -> T + Sync + Send,
    task: impl Fn(&mut T, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let chunk = chunk.max(1);
    let [values] = written_with(len, chunk, init, |state, start, [values]| task(state, start / chunk, values));
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
