//! One training step after another, on points.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use drifting_models::nn::{Params, Source};
use drifting_models::ops::inner;
use drifting_spec::Stream;

use super::picture::{self, Panel};
use super::plain;
use super::{DIM, Mlp, StartCloud, ToyConfig, ToyMetrics};
use crate::drift::{DriftError, Features, KeyBatch, KeyShape, drift_key};
use crate::optim::{Learner, Learning};
use crate::trainer::{StepError, TrainError};

/// Side of a panel in pixels.
const SIDE: usize = 300;

/// What one step found.
#[derive(Clone, Copy, Debug)]
pub struct ToyReport {
    /// Steps taken, this one included.
    pub step: u64,
    /// Mean squared distance of the points to their frozen goals, per coordinate (paper eq. 6).
    pub loss: f64,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Time of the whole step.
    pub wall: Duration,
}

/// The state of a toy run between two steps.
#[derive(Debug)]
pub struct ToyTrainer {
    config: ToyConfig,
    network: Mlp,
    learner: Learner,
    /// The points of step 0.
    origin: Vec<f32>,
}

impl ToyTrainer {
    /// A run at step 0.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn new(config: ToyConfig) -> Result<Self, TrainError> {
        config.validate()?;
        let mut network = Mlp::new(config.toy.network, Source::Seed(config.seed))?;
        if let Some(StartCloud { center, spread }) = config.toy.start {
            network = network.moved(noise(&config, "toy.start", 0, 4096), center, spread)?;
        }
        let (adamw, clip) = (config.optimizer.adamw, config.optimizer.clip);
        let learning = Learning { adamw, clip, schedule: config.schedule, decays: &[] };
        let learner = Learner::new(learning, network.params())?;
        let origin = points(&config, &network)?;
        Ok(Self { config, network, learner, origin })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ToyConfig {
        &self.config
    }

    /// Steps taken.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.learner.step_count()
    }

    /// The parameters being trained.
    #[must_use]
    pub fn params(&self) -> &Params {
        self.network.params()
    }

    /// Takes one step: fresh noise, fresh data, the drift of the points, its gradient into the network.
    ///
    /// # Errors
    /// Numbers that are not finite; the weights have not changed then.
    pub fn step(&mut self) -> Result<ToyReport, TrainError> {
        let started = Instant::now();
        let (step, toy) = (self.step_count(), &self.config.toy);
        let data = toy.target.draw(&mut Stream::new(self.config.seed, "toy.data", step), toy.positives);
        let points = self.network.forward(noise(&self.config, "toy.noise", step, toy.generated))?;
        let values: Vec<f32> = points.flatten_all()?.to_vec1()?;
        let (loss, gradient) = self.objective(&values, &data).map_err(|source| failed(step, source))?;
        let gradient = Tensor::from_vec(gradient, points.shape(), points.device())?;
        let mut store = inner(&points, &gradient)?.backward()?;
        let named = self.params().iter().filter_map(|(name, var)| Some((name.to_owned(), store.remove(var)?)));
        let gradients: BTreeMap<_, _> = named.collect();
        let lr = self.learner.lr();
        let norms = self.learner.step(self.network.params(), &gradients)?;
        Ok(ToyReport { step: step + 1, loss, gradient_norm: norms.gradient, lr, wall: started.elapsed() })
    }

    /// Loss, and its gradient in the points.
    fn objective(&self, points: &[f32], data: &[f32]) -> Result<(f64, Vec<f32>), DriftError> {
        if let Some(mut drift) = plain::drift(points, data, &self.config.drift) {
            let loss = drift.iter().map(|value| f64::from(value * value)).sum::<f64>() / drift.len() as f64;
            let slope = -2.0 / drift.len() as f32;
            drift.iter_mut().for_each(|value| *value *= slope);
            return Ok((loss, drift));
        }
        let (generated, positives) = (points.len() / DIM, data.len() / DIM);
        let shape = KeyShape { groups: 1, locations: 1, generated, positives, unconditional: 0, dim: DIM };
        let features = Features { generated: points, positives: data, unconditional: &[], weight: &[0.0] };
        let (outcome, _) = drift_key(&KeyBatch::new("points", shape, features)?, &self.config.drift)?;
        Ok((outcome.loss, outcome.gradient))
    }

    /// The points of the noise that pictures and metrics share, `[evaluated, 2]`.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn samples(&self) -> Result<Vec<f32>, TrainError> {
        points(&self.config, &self.network)
    }

    /// As many points of the target, `[evaluated, 2]`.
    #[must_use]
    pub fn data(&self) -> Vec<f32> {
        let mut stream = Stream::new(self.config.seed, "toy.evaluated.data", 0);
        self.config.toy.target.draw(&mut stream, self.config.toy.evaluated)
    }

    /// Measures the points against the target.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn metrics(&self) -> Result<ToyMetrics, TrainError> {
        Ok(ToyMetrics::of(&self.samples()?, &self.data(), &self.config.toy.target))
    }

    /// Measures other points of the target against it, to compare with.
    #[must_use]
    pub fn reference(&self) -> ToyMetrics {
        let (mut stream, toy) = (Stream::new(self.config.seed, "toy.reference", 0), &self.config.toy);
        ToyMetrics::of(&toy.target.draw(&mut stream, toy.evaluated), &self.data(), &toy.target)
    }

    /// A PNG of three panels: the points of step 0 over the data, those of now, and the drift around them; `None` for an
    /// empty picture.
    ///
    /// # Errors
    /// Points that are not finite.
    pub fn picture(&self) -> Result<Option<Vec<u8>>, TrainError> {
        let (data, samples, extent) = (self.data(), self.samples()?, self.extent());
        let arrows = picture::arrows(&samples, &data, &self.config.drift, extent);
        let arrows = arrows.map_err(|source| failed(self.step_count(), source))?;
        let before = Panel { data: data.clone(), samples: self.origin.clone(), arrows: Vec::new() };
        let now = Panel { data, samples: samples.clone(), arrows: Vec::new() };
        let field = Panel { data: Vec::new(), samples, arrows };
        Ok(picture::draw(&[before, now, field], 3, SIDE, extent))
    }

    /// Half the side of the square that pictures show.
    #[must_use]
    pub fn extent(&self) -> f32 {
        let start = self.config.toy.start.map(|StartCloud { center, spread }| (center, spread));
        picture::extent(&self.config.toy.target, start)
    }

    /// Optimizer and counters, for a checkpoint; with the weights they are all that the run needs.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        Ok(self.learner.state(self.network.params())?)
    }

    /// Continues from weights and [`state`](Self::state).
    ///
    /// # Errors
    /// Tensors that are missing, left over or of another shape, by name.
    pub fn restore(
        &mut self,
        weights: BTreeMap<String, Tensor>,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<(), TrainError> {
        let network = Mlp::new(self.config.toy.network, Source::Tensors(weights))?;
        self.learner.restore(network.params(), state)?;
        self.network = network;
        Ok(())
    }
}

fn failed(step: u64, source: DriftError) -> TrainError {
    TrainError::Step { step, ids: Vec::new(), source: Box::new(StepError::Drift(source)) }
}

/// The points that the network makes of the noise of pictures and metrics.
fn points(config: &ToyConfig, network: &Mlp) -> Result<Vec<f32>, TrainError> {
    let points = network.forward(noise(config, "toy.evaluated", 0, config.toy.evaluated))?;
    Ok(points.flatten_all()?.to_vec1()?)
}

/// Noise `[count, noise]`.
fn noise(config: &ToyConfig, name: &str, index: u64, count: usize) -> Vec<f32> {
    Stream::new(config.seed, name, index).normals(count * config.toy.network.noise)
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::SMALL;
    use super::*;
    use crate::drift::DriftSettings;

    fn trainer() -> ToyTrainer {
        ToyTrainer::new(toml::from_str(SMALL).unwrap()).unwrap()
    }

    #[test]
    fn points_between_two_modes_reach_both() {
        let mut trainer = trainer();
        let before = trainer.metrics().unwrap();
        assert!(before.modes.as_ref().unwrap().mean_distance_to_target > 1.5, "{before:?}");
        (0..60).for_each(|_| {
            trainer.step().unwrap();
        });
        let after = trainer.metrics().unwrap();
        let modes = after.modes.unwrap();
        assert!(modes.mean_distance_to_target < 1.2 && modes.mode_balance_error < 0.3, "{modes:?}");
        assert!(
            after.data_to_samples < 0.5 * before.data_to_samples,
            "{} {}",
            after.data_to_samples,
            before.data_to_samples
        );
        assert!(trainer.picture().unwrap().is_some_and(|png| png.starts_with(b"\x89PNG")));
    }

    #[test]
    fn a_restored_run_goes_on_bit_for_bit() {
        let (mut straight, mut resumed) = (trainer(), trainer());
        (0..3).for_each(|_| {
            straight.step().unwrap();
        });
        let weights = straight.params().tensors().into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap()));
        resumed.restore(weights.collect(), &straight.state().unwrap()).unwrap();
        assert_eq!(resumed.step_count(), 3);
        for _ in 0..3 {
            straight.step().unwrap();
            resumed.step().unwrap();
        }
        assert_eq!(straight.samples().unwrap(), resumed.samples().unwrap());
    }

    /// The loss of plain settings is that of the notebook: the mean square of V over points and coordinates.
    #[test]
    fn the_plain_loss_is_the_mean_square_of_algorithm_2() {
        let mut trainer = trainer();
        trainer.config.drift = DriftSettings::plain(0.3);
        let points = trainer.samples().unwrap();
        let data = trainer.data();
        let drift =
            crate::drift::field(&points, &data, crate::drift::Negatives::Own, DIM, &trainer.config.drift).unwrap();
        let (loss, gradient) = trainer.objective(&points, &data).unwrap();
        let square = drift.iter().map(|v| f64::from(v * v)).sum::<f64>() / drift.len() as f64;
        assert!((loss / square - 1.0).abs() < 1e-5, "{loss} {square}");
        for (gradient, drift) in gradient.iter().zip(&drift) {
            assert!((gradient + 2.0 * drift / points.len() as f32).abs() < 1e-7);
        }
    }
}
