//! What this machine can do: the rate of a large matrix product, and of passing through memory.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::matmul::{Matrix, Threads, matmul};

/// Rows and columns of the matrices: far beyond the caches' latencies, yet a product takes less than a second on one core.
const SIDE: usize = 1024;
/// Numbers of a vector of which no cache holds three.
const VECTOR: usize = 1 << 25;
/// Numbers that one task passes through.
const CHUNK: usize = 1 << 16;
/// Time in which products are repeated; the fastest counts.
const LENGTH: Duration = Duration::from_millis(600);

/// Floating point operations a second of a product of two 1024 x 1024 matrices in f32, with so many threads; the best of
/// what fits in 0.6 s.
///
/// # Errors
/// The operating system refuses the threads.
pub fn peak(threads: usize) -> Result<f64, String> {
    let (a, b) = (matrix(0), matrix(1));
    let who = if threads == 1 { Threads::One } else { Threads::All };
    let mut product = vec![0.0; SIDE * SIDE];
    let best = best(threads, || multiply(&mut product, &a, &b, who))?;
    Ok(2.0 * (SIDE as f64).powi(3) / best)
}

/// Bytes a second that `a = b + c` reads and writes with so many threads, for vectors far larger than the caches; the best
/// of what fits in 0.6 s.
///
/// # Errors
/// The operating system refuses the threads.
pub fn bandwidth(threads: usize) -> Result<f64, String> {
    let (b, c) = (vec![1.0f32; VECTOR], vec![2.0f32; VECTOR]);
    let mut a = vec![0.0f32; VECTOR];
    let best = best(threads, || {
        let parts = a.par_chunks_mut(CHUNK).zip(b.par_chunks(CHUNK)).zip(c.par_chunks(CHUNK));
        parts.for_each(|((a, b), c)| a.iter_mut().zip(b.iter().zip(c)).for_each(|(a, (b, c))| *a = b + c));
    })?;
    Ok((3 * size_of::<f32>() * VECTOR) as f64 / best)
}

/// Seconds of the fastest call, on a pool of so many threads.
fn best(threads: usize, mut work: impl FnMut() + Send) -> Result<f64, String> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| error.to_string())?;
    let mut best = Duration::MAX;
    let start = Instant::now();
    // The first one warms threads and memory up.
    for run in 0.. {
        let begin = Instant::now();
        pool.install(&mut work);
        if run > 0 {
            best = best.min(begin.elapsed());
        }
        if run > 1 && start.elapsed() > LENGTH {
            break;
        }
    }
    Ok(best.as_secs_f64().max(1e-9))
}

/// Numbers between -1 and 1.
fn matrix(seed: usize) -> Vec<f32> {
    (0..SIDE * SIDE).map(|i| ((i * 7919 + seed * 104_729) % 2001) as f32 / 1000.0 - 1.0).collect()
}

/// `product` = `a` `b`, all row by row.
fn multiply(product: &mut [f32], a: &[f32], b: &[f32], threads: Threads) {
    matmul(product, Matrix::new(a, SIDE, SIDE), Matrix::new(b, SIDE, SIDE), 1.0, threads);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_one_and_its_rate_is_plausible() {
        let (a, b) = (matrix(0), matrix(1));
        let mut product = vec![0.0; SIDE * SIDE];
        multiply(&mut product, &a, &b, Threads::One);
        for (row, column) in [(0, 0), (3, 1000), (1023, 512)] {
            let expected: f64 = (0..SIDE).map(|k| f64::from(a[row * SIDE + k]) * f64::from(b[k * SIDE + column])).sum();
            assert!((f64::from(product[row * SIDE + column]) - expected).abs() < 1e-2, "{row} {column}");
        }
        let rate = peak(1).unwrap();
        assert!((1e8..1e13).contains(&rate), "{rate:e}");
        let rate = bandwidth(1).unwrap();
        assert!((1e8..1e13).contains(&rate), "{rate:e}");
    }
}
