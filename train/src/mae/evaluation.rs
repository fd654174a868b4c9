//! Measurements on held-out images, as the official code takes them: trained and averaged weights, with masks and
//! without.

use candle_core::Tensor;
use drifting_models::Mae;
use drifting_models::nn::Source;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::loss::{correct, cross_entropy};
use super::mask::Masks;
use super::trainer::{MaeTrainer, sum, tensors};
use crate::config::MaeTrainConfig;
use crate::data::{self, Draw, Encoding, Images, LabelledBatch, Sample};
use crate::run::RunError;

/// Images that are measured at once.
const AT_ONCE: usize = 128;

/// Means over the held-out images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Measured {
    recon: f64,
    cross_entropy: f64,
    accuracy: f64,
}

/// `count` images spread evenly over `held_out`, so that every class of sorted data is among them, as latents if there is
/// an `encoding`. Only these are read.
pub(super) fn spread(held_out: &Images, count: usize, encoding: Option<&Encoding>) -> data::Result<LabelledBatch> {
    let total = held_out.info().images;
    let count = count.min(total);
    let draw = |i: usize| Draw { index: i * total / count, number: i as u64 };
    let samples: Vec<Sample> =
        (0..count).into_par_iter().map(|i| held_out.read(draw(i))).collect::<data::Result<_>>()?;
    let mut batch = LabelledBatch::default();
    for sample in samples {
        sample.values.append_to(&mut batch.images);
        batch.labels.push(sample.label);
        batch.ids.push(sample.draw.index as u64);
    }
    if let Some(encoding) = encoding {
        let numbers: Vec<u64> = (0..count as u64).collect();
        batch.images = encoding.encode(&batch.images, &numbers)?;
    }
    Ok(batch)
}

/// Measures the weights of `trainer` on `held_out`.
pub(super) fn evaluate(trainer: &MaeTrainer<'_>, held_out: &LabelledBatch) -> Result<Map<String, Value>, RunError> {
    let config = trainer.config;
    let averages = trainer.learner.averages().iter();
    let averages = averages.map(|average| (format!("ema_{}", average.decay()), average.tensors().clone()));
    let mut found = Map::from_iter([("images".to_owned(), json!(held_out.labels.len()))]);
    for (name, weights) in [("raw".to_owned(), trainer.mae.params().tensors())].into_iter().chain(averages) {
        // Without gradients, so that nothing is kept for a way back.
        let mae = Mae::frozen(config.mae.clone(), Source::Tensors(weights), trainer.mae.device())?;
        let masked = measure(&mae, held_out, config, config.masking.ratio)?;
        let seen = measure(&mae, held_out, config, 0.0)?;
        let value = json!({
            "masked": { "recon": masked.recon, "cross_entropy": masked.cross_entropy, "accuracy": masked.accuracy },
            "unmasked": { "cross_entropy": seen.cross_entropy, "accuracy": seen.accuracy },
        });
        found.insert(name, value);
    }
    Ok(found)
}

fn measure(mae: &Mae, batch: &LabelledBatch, config: &MaeTrainConfig, ratio: f64) -> Result<Measured, RunError> {
    let total = batch.labels.len();
    let masks = Masks::new(&config.mae, config.seed, ratio).held_out();
    let mut sums = Measured::default();
    for first in (0..total).step_by(AT_ONCE) {
        let count = AT_ONCE.min(total - first);
        let (images, labels) = tensors(batch, first, count, config, mae.device())?;
        let mask: Tensor = masks.draw(first as u64, count, mae.device())?;
        let found = mae.reconstruct(&images, &mask)?;
        sums.recon += sum(&found.loss(&mask)?)?;
        sums.cross_entropy += sum(&cross_entropy(&found.logits, &labels)?)?;
        sums.accuracy += correct(&found.logits, &labels)? as f64;
    }
    let mean = |sum: f64| sum / total.max(1) as f64;
    Ok(Measured { recon: mean(sums.recon), cross_entropy: mean(sums.cross_entropy), accuracy: mean(sums.accuracy) })
}
