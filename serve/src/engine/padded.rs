//! A graph of one batch size that takes any number of images.

use drifting_spec::{GeneratorConfig, Inputs};

use super::interface::check_inputs;
use super::{Engine, EngineError, EngineInfo};

/// Runs an engine with batches of exactly `batch` images: what is missing is filled with the last image again, what is
/// left over goes into another run.
pub(super) struct Padded {
    engine: Box<dyn Engine>,
    batch: usize,
    config: GeneratorConfig,
}

impl Padded {
    /// `engine` if it takes any batch, else with whatever it takes filled up.
    pub(super) fn wrap(engine: Box<dyn Engine>, config: &GeneratorConfig) -> Box<dyn Engine> {
        match engine.fixed_batch() {
            Some(batch) => Box::new(Self { engine, batch, config: config.clone() }),
            None => engine,
        }
    }
}

impl Engine for Padded {
    fn info(&self) -> &EngineInfo {
        self.engine.info()
    }

    fn fixed_batch(&self) -> Option<usize> {
        Some(self.batch)
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
        check_inputs(self.info().name, &self.config, inputs)?;
        let mut images = Vec::new();
        for start in (0..inputs.batch()).step_by(self.batch) {
            let taken = self.batch.min(inputs.batch() - start);
            let last = start + taken - 1;
            let places: Vec<usize> = (start..start + self.batch).map(|place| place.min(last)).collect();
            let mut found = self.engine.run(&inputs.rows(&places))?;
            found.truncate(found.len() / self.batch * taken);
            images.append(&mut found);
        }
        Ok(images)
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::ImageShape;

    use super::*;
    use crate::testing::info;

    /// An image is its noise; other batches than `batch` fail.
    struct Copying {
        info: EngineInfo,
        batch: Option<usize>,
    }

    impl Engine for Copying {
        fn info(&self) -> &EngineInfo {
            &self.info
        }

        fn fixed_batch(&self) -> Option<usize> {
            self.batch
        }

        fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
            assert_eq!(inputs.batch(), self.batch.unwrap_or(inputs.batch()));
            assert_eq!(inputs.style.len(), 2 * inputs.batch());
            Ok(inputs.noise.clone())
        }
    }

    #[test]
    fn every_number_of_images_comes_back_in_order() {
        let image = ImageShape { channels: 1, height: 2, width: 2 };
        let config = GeneratorConfig { style_tokens: 2, ..GeneratorConfig::new(image, 1, 8, 1, 1, 3) };
        for batch in [None, Some(1), Some(4)] {
            let mut engine = Padded::wrap(Box::new(Copying { info: info(), batch }), &config);
            assert_eq!(engine.fixed_batch(), batch);
            for images in [1, 3, 4, 5, 9] {
                let inputs = Inputs::seeded(&config, images as u64, &vec![(1, 1.5); images]);
                assert_eq!(engine.run(&inputs).unwrap(), inputs.noise, "{images} images, {batch:?}");
            }
            assert!(batch.is_none() || engine.run(&Inputs::default()).is_err());
        }
    }
}
