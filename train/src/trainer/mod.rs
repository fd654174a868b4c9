//! One training step after another (paper appendix A.9, Algorithm 1).

mod draws;
mod error;
mod gradients;
mod groups;
mod keys;
mod objective;
mod report;
mod state;
mod views;

use std::collections::BTreeMap;
use std::time::Instant;

use drifting_models::Generator;
use drifting_models::nn::Source;
use drifting_spec::Stream;

pub use error::{StepError, TrainError};
pub use groups::{GroupSizes, RealImages};
pub use objective::{Objective, StepObjective};
pub use report::{KeyMetrics, StepReport, Timings};

use self::draws::Draws;
use self::report::timed;
use crate::config::{BatchSettings, OptimizerSettings, TrainConfig};
use crate::data::{DataInfo, Feed, FeedCounters, Request, StepData};
use crate::drift::{KeyScale, ScaleScope, guidance_weight};
use crate::features::FeatureSpace;
use crate::optim::{Ema, Learner, Learning};
use crate::ranks::{Alone, Ranks, Share};

/// The state of a run between two steps.
#[derive(Debug)]
pub struct Trainer<'a> {
    config: &'a TrainConfig,
    space: FeatureSpace,
    feed: Box<dyn Feed>,
    generator: Generator,
    learner: Learner,
    /// Scales of the previous steps by feature key, in the scope `ema`.
    past: BTreeMap<String, KeyScale>,
    /// Numbers of the last step's real images in the data set.
    ids: Vec<u64>,
    draws: Option<Draws>,
    ranks: &'a dyn Ranks,
}

impl<'a> Trainer<'a> {
    /// A run at step 0 on the images of `feed`.
    ///
    /// # Errors
    /// Settings that contradict themselves, the data or the encoder.
    pub fn new(config: &'a TrainConfig, feed: Box<dyn Feed>) -> Result<Self, TrainError> {
        let device = config.compute.device.open()?;
        let space = FeatureSpace::open(config.generator.image, &config.features, &device)?;
        Self::with_features(config, feed, space)
    }

    /// As [`new`](Self::new) with feature spaces that are already open, on their device.
    ///
    /// # Errors
    /// Settings that contradict themselves or the data.
    pub fn with_features(
        config: &'a TrainConfig,
        feed: Box<dyn Feed>,
        space: FeatureSpace,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        check_data(config, feed.info())?;
        let generator = Generator::new(config.generator.clone(), Source::Seed(config.seed), space.device())?;
        let OptimizerSettings { adamw, clip } = config.optimizer;
        let learning = Learning { adamw, clip, schedule: config.schedule, decays: &config.ema.decays };
        let learner = Learner::new(learning, generator.params())?;
        Ok(Self {
            config,
            space,
            feed,
            generator,
            learner,
            past: BTreeMap::new(),
            ids: Vec::new(),
            draws: None,
            ranks: &Alone,
        })
    }

    /// Shares the class groups of every step with other processes, which do the same steps on the same images.
    ///
    /// # Errors
    /// More processes than class groups.
    pub fn among(self, ranks: &'a dyn Ranks) -> Result<Self, TrainError> {
        let classes = self.config.batch.classes;
        if ranks.size() > classes {
            let problem = format!("{classes} class groups for {} processes: each needs one", ranks.size());
            return Err(TrainError::mismatch("batch.classes", problem));
        }
        Ok(Self { ranks, ..self })
    }

    /// Steps taken.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.learner.step_count()
    }

    /// What the real images are drawn from.
    #[must_use]
    pub fn data(&self) -> &DataInfo {
        self.feed.info()
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
        Ok(Generator::new(self.config.generator.clone(), Source::Tensors(weights), self.space.device())?)
    }

    /// Numbers of the last step's real images in the data set, that of a step that failed included.
    #[must_use]
    pub fn batch_ids(&self) -> &[u64] {
        &self.ids
    }

    /// The encoders' files and their SHA-256 in hexadecimal.
    #[must_use]
    pub fn weight_files(&self) -> &BTreeMap<String, String> {
        self.space.weight_files()
    }

    /// What the data do, for metrics.
    #[must_use]
    pub fn feed_counters(&self) -> FeedCounters {
        self.feed.counters()
    }

    /// Takes one step.
    ///
    /// # Errors
    /// Numbers that are not finite, by step, feature key or parameter, and images; the weights have not changed then.
    pub fn step(&mut self) -> Result<StepReport, TrainError> {
        let started = Instant::now();
        let (config, step) = (self.config, self.step_count());
        let BatchSettings { classes, generated, positives, unconditional, groups_at_once } = config.batch;
        let mut timings = Timings::default();
        let request = Request { classes, positives, unconditional };
        let real =
            timed("data", self.space.device(), &mut timings.data, || self.feed.next_among(step, request, self.ranks))?;
        self.ids.clone_from(&real.ids);
        let share = Share::of(self.ranks, real.classes.len());
        self.check_batch(&real, share)?;

        let mut stream = Stream::new(config.seed, "alpha", step);
        let alphas: Vec<f32> = real.classes.iter().map(|_| config.alpha.draw(&mut stream)).collect();
        let weights: Vec<f32> = alphas.iter().map(|&alpha| guidance_weight(alpha, generated, unconditional)).collect();
        let kept = self.draws.take().filter(|draws| draws.are_of(share));
        let draws = self.draws.insert(kept.unwrap_or_else(|| Draws::new(config, share, self.space.device())));
        let inputs = draws.take(step, share.part(&real.classes, 1), share.part(&alphas, 1))?;
        let objective = StepObjective {
            generator: &self.generator,
            space: &self.space,
            settings: &config.drift,
            sizes: GroupSizes { generated, positives, unconditional },
            inputs: &inputs,
            real: RealImages { positives: &real.positives, unconditional: &real.unconditional },
            weights: share.part(&weights, 1),
            past: &self.past,
            ranks: self.ranks,
            groups: real.classes.len(),
        };
        let failed = |source: StepError| TrainError::Step { step, ids: real.ids.clone(), source: Box::new(source) };
        let found = objective.evaluate(groups_at_once, &mut timings).map_err(failed)?;

        let lr = self.learner.lr();
        let learned = timed("optimizer", self.space.device(), &mut timings.optimizer, || {
            self.learner.step(self.generator.params(), &found.gradients)
        });
        let norms = learned.map_err(|source| failed(source.into()))?;
        self.remember(&found.scales);
        Ok(StepReport {
            step: self.step_count(),
            loss: found.loss,
            keys: found.keys,
            gradient_norm: norms.gradient,
            lr,
            alpha: alphas.iter().sum::<f32>() / alphas.len().max(1) as f32,
            data_wait: timings.data,
            timings,
            wall: started.elapsed(),
        })
    }

    /// Takes the scales of a step into the memory of the scope `ema`.
    fn remember(&mut self, scales: &BTreeMap<String, KeyScale>) {
        if self.config.drift.scale_scope != ScaleScope::Ema {
            return;
        }
        for (key, now) in scales {
            match self.past.get_mut(key) {
                Some(past) => past.remember(now, self.config.drift.scale_decay),
                None => drop(self.past.insert(key.clone(), now.clone())),
            }
        }
    }

    /// Holds the numbers of images against the request.
    fn check_batch(&self, real: &StepData, share: Share) -> Result<(), TrainError> {
        let BatchSettings { positives, unconditional, .. } = self.config.batch;
        let (groups, len) = (share.groups, self.config.generator.image.len());
        for (set, found, images) in
            [("positives", real.positives.len(), positives), ("unconditional", real.unconditional.len(), unconditional)]
        {
            if groups == 0 || found != groups * images * len {
                let problem = format!("{found} numbers for {groups} groups of {images} images of {len} numbers");
                return Err(TrainError::mismatch(&format!("batch.{set}"), problem));
            }
        }
        Ok(())
    }
}

fn check_data(config: &TrainConfig, info: &DataInfo) -> Result<(), TrainError> {
    let (wanted, found) = (config.generator.classes, info.classes.len());
    if wanted != found {
        return Err(TrainError::mismatch("generator.classes", format!("{wanted}, the data have {found}")));
    }
    let (wanted, found) = (config.generator.image, info.shape);
    if wanted != found {
        return Err(TrainError::mismatch("generator.image", format!("{wanted:?}, the data have {found:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
