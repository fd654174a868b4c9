//! One step of a masked autoencoder after another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use drifting_models::Mae;
use drifting_models::nn::Source;
use drifting_models::profile;

use super::loss::{correct, cross_entropy};
use super::mask::Masks;
use crate::config::{MaeTrainConfig, OptimizerSettings};
use crate::data::{LabelledBatch, LabelledBatches};
use crate::optim::{Learner, Learning};
use crate::run::RunError;

/// What one step found.
#[derive(Clone, Copy, Debug)]
pub struct MaeReport {
    /// Steps taken, this one included.
    pub step: u64,
    /// Mean reconstruction error: squared, summed over the numbers of a position, mean over hidden positions.
    pub recon: f64,
    /// Mean cross entropy of the classifier head on the masked images.
    pub cross_entropy: f64,
    /// Share of the masked images whose class it finds.
    pub accuracy: f64,
    /// Weight of the cross entropy in the loss.
    pub class_weight: f64,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Time spent on waiting for the images.
    pub data_wait: Duration,
    /// Time of the whole step.
    pub wall: Duration,
}

/// The state of a run between two steps.
#[derive(Debug)]
pub struct MaeTrainer<'a> {
    pub(super) config: &'a MaeTrainConfig,
    pub(super) batches: Box<dyn LabelledBatches>,
    pub(super) mae: Mae,
    pub(super) learner: Learner,
    /// The images of the last step.
    pub(super) last: LabelledBatch,
}

/// Gradients and sums of losses over a part of a batch.
#[derive(Default)]
struct Part {
    gradients: BTreeMap<String, Tensor>,
    recon: f64,
    cross_entropy: f64,
    correct: usize,
}

impl<'a> MaeTrainer<'a> {
    /// Step 0 of a run on the images of `batches`.
    ///
    /// # Errors
    /// Settings that contradict themselves or the data.
    pub fn new(config: &'a MaeTrainConfig, batches: Box<dyn LabelledBatches>) -> Result<Self, RunError> {
        config.validate()?;
        let info = batches.info();
        let invalid = |key: &str, problem: String| RunError::mismatch(key, problem);
        let (wanted, found) = (config.mae.classes, info.classes.len());
        if wanted != found {
            return Err(invalid("mae.classes", format!("{wanted}, the data have {found}")));
        }
        let (wanted, found) = (config.mae.image, info.shape);
        if wanted != found {
            return Err(invalid("mae.image", format!("{wanted:?}, the data have {found:?}")));
        }
        let device = config.compute.device.open()?;
        let mae = Mae::new(config.mae.clone(), Source::Seed(config.seed), &device)?;
        let OptimizerSettings { adamw, clip } = config.optimizer;
        let learning = Learning { adamw, clip, schedule: config.schedule, decays: &config.ema.decays };
        let learner = Learner::new(learning, mae.params())?;
        Ok(Self { config, batches, mae, learner, last: LabelledBatch::default() })
    }

    /// Takes one step.
    ///
    /// # Errors
    /// Numbers that are not finite, by parameter; the weights have not changed then.
    pub fn step(&mut self) -> Result<MaeReport, RunError> {
        let started = Instant::now();
        let (config, step) = (self.config, self.learner.step_count());
        let total = config.batch.images;
        let waiting = profile::span("data");
        self.last = self.batches.next(step, total)?;
        drop(waiting);
        let data_wait = started.elapsed();

        let class_weight = config.finetune.weight_at(step, config.steps);
        let at_once = match config.batch.images_at_once {
            0 => total,
            images => images,
        };
        let mut sum = Part::default();
        for first in (0..total).step_by(at_once) {
            let part = self.part(step, first, at_once.min(total - first), class_weight)?;
            sum.add(part)?;
        }
        // A head that the loss does not depend on gets no gradient; only its weight decay moves it.
        for (name, var) in self.mae.params().iter() {
            if !sum.gradients.contains_key(name) {
                sum.gradients.insert(name.to_owned(), var.zeros_like()?);
            }
        }
        let lr = self.learner.lr();
        let _span = profile::span("optimizer");
        let norms = self.learner.step(self.mae.params(), &sum.gradients)?;
        let mean = |sum: f64| sum / total as f64;
        Ok(MaeReport {
            step: self.learner.step_count(),
            recon: mean(sum.recon),
            cross_entropy: mean(sum.cross_entropy),
            accuracy: mean(sum.correct as f64),
            class_weight,
            gradient_norm: norms.gradient,
            lr,
            data_wait,
            wall: started.elapsed(),
        })
    }

    /// Images `first..first + count` of the batch: their share of the mean loss and its gradients.
    fn part(&self, step: u64, first: usize, count: usize, class_weight: f64) -> Result<Part, RunError> {
        let config = self.config;
        let device = self.mae.device();
        let (images, labels) = tensors(&self.last, first, count, config, device)?;
        let total = config.batch.images;
        let masks = Masks::new(&config.mae, config.seed, config.masking.ratio);
        let mask = masks.draw(step * total as u64 + first as u64, count, device)?;

        let forward = profile::span("forward");
        let found = self.mae.reconstruct(&images, &mask)?;
        let recon = found.loss(&mask)?;
        // Without weight the cross entropy is only watched.
        let logits = if class_weight > 0.0 { found.logits } else { found.logits.detach() };
        let cross_entropy = cross_entropy(&logits, &labels)?;
        let mut loss = (&recon * (1.0 - class_weight))?;
        if class_weight > 0.0 {
            loss = (loss + (&cross_entropy * class_weight)?)?;
        }
        drop(forward);
        let _span = profile::span("backward");
        let mut store = (loss.sum_all()? / total as f64)?.backward()?;
        let named = self.mae.params().iter().filter_map(|(name, var)| Some((name.to_owned(), store.remove(var)?)));
        Ok(Part {
            gradients: named.collect(),
            recon: sum(&recon)?,
            cross_entropy: sum(&cross_entropy)?,
            correct: correct(&logits, &labels)?,
        })
    }

    /// Continues from weights, the optimizer's state and those of the averages.
    ///
    /// # Errors
    /// Tensors that are missing, left over or of another shape, by name.
    pub fn restore(
        &mut self,
        weights: BTreeMap<String, Tensor>,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<(), RunError> {
        let mae = Mae::new(self.config.mae.clone(), Source::Tensors(weights), self.mae.device())?;
        self.learner.restore(mae.params(), state)?;
        self.mae = mae;
        Ok(())
    }
}

impl Part {
    fn add(&mut self, other: Self) -> Result<(), candle_core::Error> {
        for (name, gradient) in other.gradients {
            let gradient = match self.gradients.remove(&name) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            self.gradients.insert(name, gradient);
        }
        self.recon += other.recon;
        self.cross_entropy += other.cross_entropy;
        self.correct += other.correct;
        Ok(())
    }
}

/// Images `[count, c, h, w]` and labels `[count]` of a part of a batch.
pub(super) fn tensors(
    batch: &LabelledBatch,
    first: usize,
    count: usize,
    config: &MaeTrainConfig,
    device: &Device,
) -> Result<(Tensor, Tensor), RunError> {
    let (shape, end) = (config.mae.image, first + count);
    let size = shape.len();
    let (Some(images), Some(labels)) = (batch.images.get(first * size..end * size), batch.labels.get(first..end))
    else {
        let found = batch.labels.len();
        return Err(RunError::mismatch("batch.images", format!("the data gave {found} images, expected {end}")));
    };
    let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
    let images = Tensor::from_slice(images, (count, shape.channels, shape.height, shape.width), device)?;
    Ok((images, Tensor::from_vec(labels, count, device)?))
}

/// The sum of a vector in f64.
pub(super) fn sum(values: &Tensor) -> Result<f64, candle_core::Error> {
    Ok(values.to_vec1::<f32>()?.into_iter().map(f64::from).sum())
}
