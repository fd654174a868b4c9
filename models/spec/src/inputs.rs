//! The inputs of one forward pass, and how a seed becomes them.

use crate::{GeneratorConfig, Stream};

/// Names of the inputs and the output of an exported generator.
pub mod names {
    /// Gaussian noise, f32 `[batch, channels, height, width]`.
    pub const NOISE: &str = "noise";
    /// Style indices, i64 `[batch, style tokens]`; absent when the generator has no style tokens.
    pub const STYLE: &str = "style";
    /// Class, i64 `[batch]`.
    pub const CLASS: &str = "class";
    /// Guidance, f32 `[batch]`.
    pub const ALPHA: &str = "alpha";
    /// The generator's or its decoder's output, `[batch, channels, height, width]` of f32 or levels; an encoder's input, f32.
    pub const IMAGE: &str = "image";
    /// The input of a decoder alone, f32 `[batch, channels, height, width]`.
    pub const LATENT: &str = "latent";
    /// The symbolic name of the first dimension.
    pub const BATCH: &str = "batch";
}

/// A batch of inputs in row-major order; the batch size is the length of `class`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// `[batch, channels, height, width]`.
    pub noise: Vec<f32>,
    /// `[batch, style tokens]`.
    pub style: Vec<i64>,
    /// `[batch]`.
    pub class: Vec<i64>,
    /// `[batch]`.
    pub alpha: Vec<f32>,
}

impl Inputs {
    /// Images in the batch.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.class.len()
    }

    /// Takes all images out.
    pub fn clear(&mut self) {
        let Self { noise, style, class, alpha } = self;
        noise.clear();
        style.clear();
        class.clear();
        alpha.clear();
    }

    /// The images `rows`, each as often as it is named, as a batch of their own.
    #[must_use]
    pub fn rows(&self, rows: &[usize]) -> Self {
        let batch = self.batch();
        Self {
            noise: pick(&self.noise, batch, rows),
            style: pick(&self.style, batch, rows),
            class: pick(&self.class, batch, rows),
            alpha: pick(&self.alpha, batch, rows),
        }
    }

    /// Appends image number `index` of `seed`: its noise and style depend on nothing else, so it looks the same in
    /// every batch and on every machine.
    pub fn push_seeded(&mut self, config: &GeneratorConfig, seed: u64, index: u64, class: usize, alpha: f32) {
        let before = self.noise.len();
        self.push_without_noise(config, seed, index, class, alpha);
        noise(seed, index).fill_normals(&mut self.noise[before..]);
    }

    /// As [`Inputs::push_seeded`], but the noise is 0; to be filled from [`noise`].
    pub fn push_without_noise(&mut self, config: &GeneratorConfig, seed: u64, index: u64, class: usize, alpha: f32) {
        self.noise.resize(self.noise.len() + config.image.len(), 0.0);
        let mut style = Stream::new(seed, "style", index);
        self.style.extend((0..config.style_tokens).map(|_| style.below(config.style_codes) as i64));
        self.class.push(class as i64);
        self.alpha.push(alpha);
    }

    /// Images 0.. of `seed`, one for each pair of class and alpha.
    #[must_use]
    pub fn seeded(config: &GeneratorConfig, seed: u64, conditions: &[(usize, f32)]) -> Self {
        let mut inputs = Self::default();
        for (index, &(class, alpha)) in conditions.iter().enumerate() {
            inputs.push_seeded(config, seed, index as u64, class, alpha);
        }
        inputs
    }
}

/// The noise of image number `index` of `seed`.
#[must_use]
pub fn noise(seed: u64, index: u64) -> Stream {
    Stream::new(seed, "noise", index)
}

/// The entries of `rows` in a list that holds the same number for each of `all` rows; nothing for a row that is not there.
#[must_use]
pub fn pick<T: Copy>(values: &[T], all: usize, rows: &[usize]) -> Vec<T> {
    let each = values.len() / all.max(1);
    rows.iter().flat_map(|row| values.get(row * each..(row + 1) * each).unwrap_or_default()).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageShape;

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let config = GeneratorConfig::new(ImageShape { channels: 1, height: 4, width: 4 }, 2, 8, 1, 1, 10);
        let many = Inputs::seeded(&config, 7, &[(3, 1.0), (4, 2.0), (5, 1.5)]);
        let mut one = Inputs::default();
        one.push_seeded(&config, 7, 2, 5, 1.5);
        assert_eq!(one.noise, many.noise[32..]);
        assert_eq!(one.style, many.style[64..]);
        assert!(many.style.iter().all(|code| (0..64).contains(code)));
        assert_eq!((many.batch(), one.batch()), (3, 1));
        assert_eq!(many.rows(&[2]), one);
        assert_eq!((many.rows(&[1, 1]).class, many.rows(&[1, 1]).alpha), (vec![4, 4], vec![2.0, 2.0]));
    }
}
