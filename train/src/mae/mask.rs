//! What is hidden from the encoder (method section 7.2).

use candle_core::{Device, Result, Tensor};
use drifting_spec::{MaeConfig, Stream};
use rayon::prelude::*;

/// Name of the stream of training masks.
const TRAINING: &str = "mae.mask";
/// Name of the stream of the masks that held-out images are measured under.
const HELD_OUT: &str = "mae.mask.held_out";

/// Draws which blocks of positions of each image are hidden.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masks<'a> {
    config: &'a MaeConfig,
    seed: u64,
    ratio: f64,
    name: &'static str,
}

impl<'a> Masks<'a> {
    /// The masks of training.
    pub(super) fn new(config: &'a MaeConfig, seed: u64, ratio: f64) -> Self {
        Self { config, seed, ratio, name: TRAINING }
    }

    /// The masks of measurements, the same at every step.
    pub(super) fn held_out(self) -> Self {
        Self { name: HELD_OUT, ..self }
    }

    /// The masks of images `first..first + count`, counted over the whole run, `[count, h/p, w/p]` of 0 (seen) and 1
    /// (hidden). Each block is hidden independently, blocks at the edge may be cut.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub(super) fn draw(&self, first: u64, count: usize, device: &Device) -> Result<Tensor> {
        let (rows, columns) = self.config.grid();
        let side = self.config.mask_block;
        let across = columns.div_ceil(side);
        let mut mask = vec![0.0f32; count * rows * columns];
        mask.par_chunks_mut((rows * columns).max(1)).with_min_len(16).enumerate().for_each(|(i, mask)| {
            let mut stream = Stream::new(self.seed, self.name, first + i as u64);
            let blocks: Vec<f32> = (0..rows.div_ceil(side) * across)
                .map(|_| if stream.uniform() < self.ratio { 1.0 } else { 0.0 })
                .collect();
            for (position, value) in mask.iter_mut().enumerate() {
                let (row, column) = (position / columns, position % columns);
                *value = blocks[row / side * across + column / side];
            }
        });
        Tensor::from_vec(mask, (count, rows, columns), device)
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::ImageShape;

    use super::*;

    fn config(input_patch: usize) -> MaeConfig {
        MaeConfig::new(ImageShape { channels: 1, height: 28, width: 28 }, input_patch, 8, 10)
    }

    fn draw(masks: Masks<'_>, first: u64, count: usize) -> Vec<Vec<Vec<f32>>> {
        masks.draw(first, count, &Device::Cpu).unwrap().to_vec3().unwrap()
    }

    #[test]
    fn blocks_are_hidden_as_a_whole_and_half_of_them() {
        let config = config(1);
        let masks = draw(Masks::new(&config, 1, 0.5), 0, 40);
        let mut hidden = 0.0;
        for mask in &masks {
            for (row, values) in mask.iter().enumerate() {
                for (column, value) in values.iter().enumerate() {
                    assert_eq!(*value, mask[row / 2 * 2][column / 2 * 2]);
                    hidden += value;
                }
            }
        }
        let share = hidden / (40.0 * 28.0 * 28.0);
        assert!((share - 0.5).abs() < 0.02, "{share}");
    }

    #[test]
    fn the_mask_of_an_image_does_not_depend_on_its_batch() {
        let config = config(1);
        let masks = Masks::new(&config, 1, 0.5);
        assert_eq!(draw(masks, 0, 8)[5..], draw(masks, 5, 3)[..]);
        assert_ne!(draw(masks, 0, 1), draw(masks, 1, 1));
        assert_ne!(draw(masks, 0, 1), draw(masks.held_out(), 0, 1));
    }

    #[test]
    fn odd_grids_and_the_two_ends_of_the_ratio() {
        let config = config(4);
        let count = |ratio: f64| draw(Masks::new(&config, 1, ratio), 0, 3).concat().concat().iter().sum::<f32>();
        assert_eq!((count(0.0), count(1.0)), (0.0, 3.0 * 49.0));
    }
}
