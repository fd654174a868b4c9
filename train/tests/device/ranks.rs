//! Steps of several ranks, and steps that fail, where the objective is computed as on another device.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use drifting_train::config::TrainConfig;
use drifting_train::data::{Dataset, DirectFeed};
use drifting_train::drift::ScaleScope;
use drifting_train::features::FeatureSpace;
use drifting_train::ranks::{Alone, OnThread, Ranks, Sums};
use drifting_train::trainer::Trainer;

use super::device;

#[path = "../../src/ranks/threads.rs"]
mod threads;

use threads::together;

const STEPS: usize = 3;

fn config(scope: ScaleScope, at_once: usize) -> TrainConfig {
    let mut config = TrainConfig::parse(include_str!("../../src/trainer/tests.toml"), "test", &[]).unwrap();
    (config.drift.scale_scope, config.batch.groups_at_once) = (scope, at_once);
    config
}

fn trainer<'a>(config: &'a TrainConfig, data: &Dataset) -> Trainer<'a> {
    let feed = Box::new(DirectFeed::new(Arc::new(data.clone()), 42));
    let space = FeatureSpace::open(config.generator.image, &config.features, &device()).unwrap();
    Trainer::with_features(config, feed, space).unwrap()
}

/// |x - y| / |y| of all weights together: the first steps of AdamW follow the signs of gradients, however small they are.
fn apart(left: &BTreeMap<String, Tensor>, right: &BTreeMap<String, Tensor>) -> f64 {
    let square = |x: &Tensor| f64::from(x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
    let differences: f64 = left.iter().map(|(name, x)| square(&(x - &right[name]).unwrap())).sum();
    (differences / right.values().map(square).sum::<f64>()).sqrt()
}

#[test]
fn several_ranks_take_the_steps_of_one() {
    for (scope, at_once) in
        [(ScaleScope::Batch, 0), (ScaleScope::Batch, 1), (ScaleScope::Group, 0), (ScaleScope::Ema, 2)]
    {
        let config = config(scope, at_once);
        let (data, _) = config.data.open(config.generator.image).unwrap();
        let run = |ranks: &dyn Ranks| {
            let mut trainer = trainer(&config, &data).among(ranks).unwrap();
            let losses: Vec<f64> = (0..STEPS).map(|_| trainer.step().unwrap().loss).collect();
            (losses, trainer.generator().params().tensors())
        };
        let (losses, weights) = run(&Alone);
        for (found, of_rank) in together(2, run) {
            let worst = apart(&of_rank, &weights);
            assert!(worst < 1e-4, "{scope:?} {at_once}: weights {worst}");
            for (found, loss) in found.iter().zip(&losses) {
                assert!((found / loss - 1.0).abs() < 1e-5, "{scope:?} {at_once}: {found} {loss}");
            }
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_found_in_the_features() {
    for at_once in [0, 1] {
        let config = config(ScaleScope::Batch, at_once);
        let (data, _) = config.data.open(config.generator.image).unwrap();
        let mut trainer = trainer(&config, &data);
        trainer.step().unwrap();
        for (_, var) in trainer.generator().params().iter() {
            var.set(&var.affine(f64::NAN, 0.0).unwrap()).unwrap();
        }
        let error = trainer.step().unwrap_err().to_string();
        assert!(error.starts_with("step 1: feature key global: class group 0, location 0: generated"), "{error}");
    }
}
