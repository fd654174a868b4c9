//! One training step after another (paper appendix A.9, Algorithm 1).

mod objective;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use drifting_models::Generator;
use drifting_models::nn::Source;
use drifting_spec::{Inputs, Stream};
use rayon::prelude::*;

pub use objective::{KeyMetrics, Objective, ObjectiveError, StepImages, objective};

use crate::config::{ConfigError, OptimizerSettings, TrainConfig};
use crate::data::{Counts, Dataset, Sampler};
use crate::drift::guidance_weight;
use crate::features::PixelKey;
use crate::optim::{Ema, Learner, Learning, OptimError};

/// An error that stops training; what was saved before stays.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Network or weights.
    #[error(transparent)]
    Model(#[from] drifting_models::Error),
    /// Optimizer.
    #[error(transparent)]
    Optimizer(#[from] OptimError),
    /// Objective.
    #[error("step {step}: {source}")]
    Objective {
        /// The step.
        step: u64,
        /// The cause.
        source: ObjectiveError,
    },
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The data do not fit the settings.
    #[error("{key}: {problem}")]
    Mismatch {
        /// The key of the settings.
        key: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
}

/// What one step found.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Steps taken, this one included.
    pub step: u64,
    /// Loss; constant by construction, no measure of progress.
    pub loss: f64,
    /// Metrics of each feature key.
    pub keys: BTreeMap<String, KeyMetrics>,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Mean alpha of the class groups.
    pub alpha: f32,
    /// Time spent on getting the real images.
    pub data_wait: Duration,
    /// Time of the whole step.
    pub wall: Duration,
}

/// The state of a run between two steps.
#[derive(Debug)]
pub struct Trainer<'a> {
    config: &'a TrainConfig,
    keys: Vec<PixelKey>,
    sampler: Sampler<'a>,
    generator: Generator,
    learner: Learner,
}

impl<'a> Trainer<'a> {
    /// A run at step 0 on `data`.
    ///
    /// # Errors
    /// Settings that contradict themselves or the data.
    pub fn new(config: &'a TrainConfig, data: &'a Dataset) -> Result<Self, TrainError> {
        config.validate()?;
        let (wanted, found) = (config.generator.classes, data.classes().len());
        if wanted != found {
            return Err(TrainError::Mismatch {
                key: "generator.classes",
                problem: format!("{wanted}, the data have {found}"),
            });
        }
        let (wanted, found) = (config.generator.image, data.shape());
        if wanted != found {
            let problem = format!("{wanted:?}, the data have {found:?}");
            return Err(TrainError::Mismatch { key: "generator.image", problem });
        }
        let generator = Generator::new(config.generator.clone(), Source::Seed(config.seed), &Device::Cpu)?;
        let OptimizerSettings { adamw, clip } = config.optimizer;
        let learning = Learning { adamw, clip, schedule: config.schedule, decays: &config.ema.decays };
        let learner = Learner::new(learning, generator.params())?;
        let sampler = Sampler::new(data, config.seed);
        Ok(Self { config, keys: config.feature_keys()?, sampler, generator, learner })
    }

    /// Steps taken.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.learner.step_count()
    }

    /// The network being trained.
    #[must_use]
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// The moving averages in the order of the settings.
    #[must_use]
    pub fn averages(&self) -> &[Ema] {
        self.learner.averages()
    }

    /// A network with the weights of the first moving average.
    ///
    /// # Errors
    /// Weights that are not finite.
    pub fn averaged_generator(&self) -> Result<Generator, TrainError> {
        let weights = match self.averages().first() {
            Some(average) => average.tensors().clone(),
            None => self.generator.params().tensors(),
        };
        Ok(Generator::new(self.config.generator.clone(), Source::Tensors(weights), &Device::Cpu)?)
    }

    /// Takes one step.
    ///
    /// # Errors
    /// Numbers that are not finite, by step and feature key or parameter; the weights have not changed then.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        let started = Instant::now();
        let (config, step) = (self.config, self.step_count());
        let classes = self.sampler.classes(step, config.batch.classes);
        let counts = Counts { positives: config.batch.positives, unconditional: config.batch.unconditional };
        let real = self.sampler.batch(step, &classes, counts);
        let data_wait = started.elapsed();

        let mut stream = Stream::new(config.seed, "alpha", step);
        let alphas: Vec<f32> = classes.iter().map(|_| config.alpha.draw(&mut stream)).collect();
        let weight = |alpha: &f32| guidance_weight(*alpha, config.batch.generated, config.batch.unconditional);
        let weights: Vec<f32> = alphas.iter().map(weight).collect();

        let generated = self.generator.run(&self.inputs(&classes, &alphas))?;
        let images = StepImages {
            groups: classes.len(),
            generated: &generated.flatten_all()?.to_vec1()?,
            positives: &real.positives,
            unconditional: &real.unconditional,
            weights: &weights,
        };
        let found = objective(&images, config.generator.image, &self.keys, &config.drift)
            .map_err(|source| TrainError::Objective { step, source })?;

        let gradients = self.backward(&generated, found.gradient)?;
        let lr = self.learner.lr();
        let norms = self.learner.step(self.generator.params(), &gradients)?;
        Ok(StepReport {
            step: self.step_count(),
            loss: found.loss,
            keys: found.keys,
            gradient_norm: norms.gradient,
            lr,
            alpha: alphas.iter().sum::<f32>() / alphas.len().max(1) as f32,
            data_wait,
            wall: started.elapsed(),
        })
    }

    /// Noise and style of this step for every generated image, class group after class group.
    fn inputs(&self, classes: &[usize], alphas: &[f32]) -> Inputs {
        let per_group = self.config.batch.generated;
        let first = self.step_count() * (classes.len() * per_group) as u64;
        let images: Vec<Inputs> = (0..classes.len() * per_group)
            .into_par_iter()
            .map(|i| {
                let mut inputs = Inputs::default();
                let (class, alpha) = (classes[i / per_group], alphas[i / per_group]);
                inputs.push_seeded(&self.config.generator, self.config.seed, first + i as u64, class, alpha);
                inputs
            })
            .collect();
        let mut all = Inputs::default();
        for image in images {
            all.noise.extend(image.noise);
            all.style.extend(image.style);
            all.class.extend(image.class);
            all.alpha.extend(image.alpha);
        }
        all
    }

    /// Brings the gradient of the images back to the parameters: the derivative of sum(images * gradient).
    fn backward(&self, images: &Tensor, gradient: Vec<f32>) -> Result<BTreeMap<String, Tensor>, TrainError> {
        let gradient = Tensor::from_vec(gradient, images.shape(), images.device())?;
        let mut store = (images * gradient)?.sum_all()?.backward()?;
        let named =
            self.generator.params().iter().filter_map(|(name, var)| Some((name.to_owned(), store.remove(var)?)));
        Ok(named.collect())
    }

    /// The optimizer's state, for a checkpoint; with the weights and the averages it is all that the run needs.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn optimizer_state(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        Ok(self.learner.state(self.generator.params())?)
    }

    /// Continues from the weights of the generator and the states of the optimizer and of each average.
    ///
    /// # Errors
    /// Tensors that are missing, left over or of another shape, by name.
    pub fn restore(
        &mut self,
        weights: BTreeMap<String, Tensor>,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<(), TrainError> {
        let generator = Generator::new(self.config.generator.clone(), Source::Tensors(weights), &Device::Cpu)?;
        self.learner.restore(generator.params(), state)?;
        self.generator = generator;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
