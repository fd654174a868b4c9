//! Noise and style of generated images.

use candle_core::Device;
use drifting_spec::Inputs;
use rayon::prelude::*;

use crate::config::TrainConfig;
use crate::data::{Ahead, DataError};
use crate::ranks::Share;

/// The draws of a rank, functions of (seed, step). Where another device computes, those of the next step are drawn meanwhile.
#[derive(Debug)]
pub(super) struct Draws {
    share: Share,
    per_group: usize,
    ahead: Ahead<Inputs>,
}

impl Draws {
    /// Those of a share of the class groups, which `device` takes.
    pub(super) fn new(config: &TrainConfig, share: Share, device: &Device) -> Self {
        let (generator, seed, per_group) = (config.generator.clone(), config.seed, config.batch.generated);
        let make = move |step: u64| {
            let first = step * (share.total * per_group) as u64 + (share.first * per_group) as u64;
            let draw = |i: usize| {
                let mut inputs = Inputs::default();
                inputs.push_seeded(&generator, seed, first + i as u64, 0, 0.0);
                inputs
            };
            let images: Vec<Inputs> = (0..share.groups * per_group).into_par_iter().map(draw).collect();
            let mut all = Inputs::default();
            for image in images {
                all.noise.extend(image.noise);
                all.style.extend(image.style);
            }
            Ok(all)
        };
        let workers = usize::from(!device.is_cpu());
        Self { share, per_group, ahead: Ahead::new(workers, 1, make) }
    }

    /// Whether they are those of this share.
    pub(super) fn are_of(&self, share: Share) -> bool {
        self.share == share
    }

    /// The inputs of step `step`, class group after class group, with the class and the alpha of each group.
    pub(super) fn take(&mut self, step: u64, classes: &[usize], alphas: &[f32]) -> Result<Inputs, DataError> {
        let Inputs { noise, style, .. } = self.ahead.take(step)?;
        let each = self.per_group;
        let class = classes.iter().flat_map(|&class| std::iter::repeat_n(class as i64, each)).collect();
        let alpha = alphas.iter().flat_map(|&alpha| std::iter::repeat_n(alpha, each)).collect();
        Ok(Inputs { noise, style, class, alpha })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn a_share_has_its_part_of_the_images_of_all_ranks() {
        let config = config();
        let (classes, alphas) = ([4, 0, 9], [1.5, 1.0, 3.0]);
        let mut expected = Inputs::default();
        for image in 0..12 {
            let group = image / 4;
            expected.push_seeded(&config.generator, config.seed, 5 * 12 + image as u64, classes[group], alphas[group]);
        }
        let whole = Share::new(3, 0, 1);
        let mut draws = Draws::new(&config, whole, &Device::Cpu);
        assert_eq!(draws.take(5, &classes, &alphas).unwrap(), expected);
        let share = Share::new(3, 1, 2);
        assert!(draws.are_of(whole) && !draws.are_of(share));
        let of_share = |draws: &mut Draws| draws.take(5, share.part(&classes, 1), share.part(&alphas, 1)).unwrap();
        let mut part = Draws::new(&config, share, &Device::Cpu);
        assert_eq!(of_share(&mut part), expected.rows(&[4, 5, 6, 7, 8, 9, 10, 11]));
    }
}
