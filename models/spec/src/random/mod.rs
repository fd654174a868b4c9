//! Randomness as a function of (seed, name, index).
//!
//! Every random number of the project comes from here, so a resumed run repeats the straight one and an image does not
//! depend on the batch it was made in. Only integer arithmetic and pure-Rust mathematics are used: the numbers are the
//! same on every machine.

mod box_muller;

use box_muller::PAIRS;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random numbers that is a pure function of its seed, name and index.
#[derive(Clone, Debug)]
pub struct Stream {
    generator: ChaCha8Rng,
    spare: Option<f64>,
}

impl Stream {
    /// The stream `name` of `seed` at `index`; streams that differ in any of the three are independent.
    #[must_use]
    pub fn new(seed: u64, name: &str, index: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&fnv1a(name.as_bytes()).to_le_bytes());
        key[16..24].copy_from_slice(&(name.len() as u64).to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(index);
        Self { generator, spare: None }
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in 0..`bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.generator.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Standard normal (Box-Muller; both values of a pair are used).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let [first, second] = box_muller::pair([self.generator.next_u64(), self.generator.next_u64()]);
        self.spare = Some(second);
        first
    }

    /// Goes on behind the next `pairs` pairs of [`Stream::normal`]s.
    pub fn skip_normal_pairs(&mut self, pairs: usize) {
        // Two numbers of 64 bits, each two words, make a pair.
        self.generator.set_word_pos(self.generator.get_word_pos() + 4 * pairs as u128);
    }

    /// `count` standard normal numbers.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        self.fill_normals(&mut values);
        values
    }

    /// Makes each of `values` the next standard normal number.
    pub fn fill_normals(&mut self, values: &mut [f32]) {
        let mut rest = values;
        if self.spare.is_none() {
            let (mut bytes, mut bits, mut pairs) = ([0; 16 * PAIRS], [[0; PAIRS]; 2], [[0.0; PAIRS]; 2]);
            let mut blocks = rest.chunks_exact_mut(2 * PAIRS);
            for block in &mut blocks {
                self.generator.fill_bytes(&mut bytes);
                for (i, pair) in bytes.as_chunks().0.as_chunks().0.iter().enumerate() {
                    let [radius, angle] = pair.map(u64::from_le_bytes);
                    (bits[0][i], bits[1][i]) = (radius, angle);
                }
                box_muller::pairs(&bits, &mut pairs);
                for (i, pair) in block.as_chunks_mut().0.iter_mut().enumerate() {
                    *pair = [pairs[0][i], pairs[1][i]];
                }
            }
            rest = blocks.into_remainder();
        }
        rest.fill_with(|| self.normal() as f32);
    }

    /// `take` different positions of 0..`from` in random order; all of them when `take` exceeds `from`.
    pub fn choose(&mut self, from: usize, take: usize) -> Vec<usize> {
        let mut positions: Vec<usize> = (0..from).collect();
        let take = take.min(from);
        for i in 0..take {
            let j = i + self.below(from - i);
            positions.swap(i, j);
        }
        positions.truncate(take);
        positions
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_functions_of_seed_name_and_index() {
        let draw = |seed, name, index| Stream::new(seed, name, index).normals(3);
        assert_eq!(draw(7, "noise", 3), draw(7, "noise", 3));
        for other in [draw(8, "noise", 3), draw(7, "style", 3), draw(7, "noise", 4)] {
            assert_ne!(draw(7, "noise", 3), other);
        }
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let values = Stream::new(1, "test", 0).normals(100_000);
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn many_normals_are_single_ones() {
        for (before, count) in [(0, 0), (0, 127), (0, 1000), (1, 1000), (2, 300)] {
            let mut single = Stream::new(3, "noise", 5);
            let mut many = single.clone();
            let mut wanted: Vec<f32> = (0..before + count).map(|_| single.normal() as f32).collect();
            wanted.drain(..before);
            for _ in 0..before {
                let _ = many.normal();
            }
            assert_eq!(many.normals(count), wanted, "{before} {count}");
            assert_eq!(many.normal(), single.normal());
        }
    }

    #[test]
    fn pairs_can_be_left_out() {
        let whole = Stream::new(3, "noise", 5).normals(1000);
        for (first, skipped) in [(0, 0), (0, 1), (0, 64), (1, 99), (3, 400)] {
            let mut stream = Stream::new(3, "noise", 5);
            let _ = stream.normals(first);
            stream.skip_normal_pairs(skipped);
            let before = usize::from(first % 2 == 1);
            let found = stream.normals(100 + before);
            let start = first + before + 2 * skipped;
            assert_eq!(found[before..], whole[start..start + 100], "{first} {skipped}");
        }
    }

    #[test]
    fn choose_takes_each_position_once() {
        let mut chosen = Stream::new(1, "test", 0).choose(50, 80);
        chosen.sort_unstable();
        assert_eq!(chosen, (0..50).collect::<Vec<_>>());
    }

    /// Served seeds are a promise: these numbers may never change.
    #[test]
    fn the_numbers_stay_what_they_are() {
        let mut stream = Stream::new(7, "noise", 0);
        assert_eq!(stream.normals(2), [0.367_495_7, -0.591_269]);
        assert_eq!((stream.below(64), stream.uniform()), (39, 0.889_444_911_294_121_3));
    }
}
