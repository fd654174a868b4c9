//! The inputs of a batch; the noise of large images is drawn on several threads.

use std::num::NonZeroUsize;
use std::thread;

use drifting_spec::{GeneratorConfig, Inputs, noise};

use super::Order;
use super::job::Share;

/// Numbers of noise for which another thread pays: it draws them in 0.25 ms and takes 0.05 ms to start.
const PER_THREAD: usize = 1 << 16;

/// A stretch of the noise of image `index` of `seed`.
struct Piece<'a> {
    seed: u64,
    index: u64,
    /// Pairs of numbers before it.
    before: usize,
    values: &'a mut [f32],
}

impl Piece<'_> {
    fn draw(self) {
        let mut stream = noise(self.seed, self.index);
        stream.skip_normal_pairs(self.before);
        stream.fill_normals(self.values);
    }
}

/// Makes `inputs` those of all shares; their memory is used again.
pub(super) fn fill(inputs: &mut Inputs, config: &GeneratorConfig, shares: &[Share]) {
    inputs.clear();
    let mut images = Vec::new();
    for Share { job, first, count } in shares {
        let Order { class, alpha, seed, .. } = job.order;
        for index in (*first..first + count).map(|index| index as u64) {
            inputs.push_without_noise(config, seed, index, class, alpha);
            images.push((seed, index));
        }
    }
    let available = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = (inputs.noise.len() / PER_THREAD).clamp(1, available);
    draw(&images, &mut inputs.noise, threads);
}

/// The noise of `images`, pairs of seed and index, on as many threads.
fn draw(images: &[(u64, u64)], noise: &mut [f32], threads: usize) {
    let image_len = noise.len() / images.len().max(1);
    // Whole pairs, and of every thread about the same.
    let pairs = (image_len / 2).div_ceil(threads).max(1);
    let mut pieces = Vec::new();
    for (&(seed, index), image) in images.iter().zip(noise.chunks_mut(image_len.max(1))) {
        for (number, values) in image.chunks_mut(2 * pairs).enumerate() {
            pieces.push(Piece { seed, index, before: number * pairs, values });
        }
    }
    thread::scope(|scope| {
        let each = pieces.len().div_ceil(threads).max(1);
        while pieces.len() > each {
            let some = pieces.split_off(pieces.len() - each);
            scope.spawn(move || some.into_iter().for_each(Piece::draw));
        }
        pieces.into_iter().for_each(Piece::draw);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_draw_what_one_draws() {
        let images = [(7, 0), (7, 1), (9, 3)];
        for image_len in [1, 2, 129, 1000, 4097] {
            let wanted: Vec<f32> =
                images.iter().flat_map(|&(seed, index)| noise(seed, index).normals(image_len)).collect();
            for threads in [1, 2, 3, 8] {
                let mut found = vec![0.0; wanted.len()];
                draw(&images, &mut found, threads);
                assert_eq!(found, wanted, "{image_len} numbers, {threads} threads");
            }
        }
        draw(&[], &mut [], 2);
    }
}
