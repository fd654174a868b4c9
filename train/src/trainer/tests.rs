use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::data::{DataError, DataSource, Dataset, DirectFeed};

pub(super) fn config() -> TrainConfig {
    TrainConfig::parse(include_str!("tests.toml"), "test", &[]).unwrap()
}

fn feed(data: &Dataset) -> Box<dyn Feed> {
    Box::new(DirectFeed::new(Arc::new(data.clone()), 42))
}

fn state(trainer: &Trainer<'_>) -> BTreeMap<String, Tensor> {
    let averages = trainer.averages().iter().flat_map(Ema::state);
    trainer.optimizer_state().unwrap().into_iter().chain(averages).collect()
}

fn weights(trainer: &Trainer<'_>) -> Vec<Vec<f32>> {
    let flat = |tensor: Tensor| tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let state = state(trainer)
        .into_iter()
        .filter(|(name, _)| !["adamw.step", "run.step", "run.schedule_from"].contains(&name.as_str()));
    trainer.generator.params().tensors().into_iter().chain(state).map(|(_, tensor)| flat(tensor)).collect()
}

#[test]
fn a_restored_run_equals_the_straight_one_bit_for_bit() {
    let config = config();
    let (data, _) = config.data.open(config.generator.image).unwrap();
    let mut straight = Trainer::new(&config, feed(&data)).unwrap();
    for _ in 0..3 {
        straight.step().unwrap();
    }
    let (saved, state) = (straight.generator().params().tensors(), state(&straight));
    let copy = |tensors: &BTreeMap<String, Tensor>| {
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.copy().unwrap())).collect::<BTreeMap<_, _>>()
    };
    let (saved, state) = (copy(&saved), copy(&state));
    let mut resumed = Trainer::new(&config, feed(&data)).unwrap();
    resumed.restore(saved, &state).unwrap();
    assert_eq!(resumed.step_count(), 3);
    for _ in 0..3 {
        let (a, b) = (straight.step().unwrap(), resumed.step().unwrap());
        assert_eq!((a.step, a.loss, a.gradient_norm), (b.step, b.loss, b.gradient_norm));
    }
    assert_eq!(weights(&straight), weights(&resumed));
}

#[test]
fn samples_come_closer_to_the_data() {
    let config = TrainConfig { steps: 30, ..config() };
    let (data, _) = config.data.open(config.generator.image).unwrap();
    let mut trainer = Trainer::new(&config, feed(&data)).unwrap();
    let first = trainer.step().unwrap();
    let last = (1..30).map(|_| trainer.step().unwrap()).last().unwrap();
    // At step 0 every image is exactly 0, the middle grey.
    let scale = |report: &StepReport| report.keys["global"].scale;
    assert!(scale(&last) < 0.9 * scale(&first), "{} {}", scale(&first), scale(&last));
    assert!(last.gradient_norm.is_finite() && last.lr == 1e-3);
}

#[test]
fn data_that_do_not_fit_are_refused() {
    let config = config();
    let (data, _) = DataSource::Embedded(crate::data::Embedded::FashionMnist).open(config.generator.image).unwrap();
    let mut other = config.clone();
    other.generator.classes = 12;
    assert!(
        Trainer::new(&other, feed(&data))
            .unwrap_err()
            .to_string()
            .starts_with("generator.classes: 12, the data have 10")
    );
}

/// Hands out images with a NaN from step 1 on.
#[derive(Debug)]
struct Spoilt(Box<dyn Feed>);

impl Feed for Spoilt {
    fn info(&self) -> &DataInfo {
        self.0.info()
    }

    fn next_among(&mut self, step: u64, request: Request, ranks: &dyn Ranks) -> Result<StepData, DataError> {
        let mut data = self.0.next_among(step, request, ranks)?;
        if step > 0 {
            data.positives[28 * 28 * 7 + 3] = f32::NAN;
        }
        Ok(data)
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    fn restore_among(&mut self, _: u64, _: &BTreeMap<String, Tensor>, _: &dyn Ranks) -> Result<(), DataError> {
        Ok(())
    }

    fn counters(&self) -> FeedCounters {
        FeedCounters::default()
    }
}

#[test]
fn bad_numbers_stop_the_step_with_their_images_and_change_nothing() {
    let config = config();
    let (data, _) = config.data.open(config.generator.image).unwrap();
    let mut trainer = Trainer::new(&config, Box::new(Spoilt(feed(&data)))).unwrap();
    trainer.step().unwrap();
    let before = weights(&trainer);
    let error = trainer.step().unwrap_err();
    let TrainError::Step { step, ids, source } = &error else { panic!("{error}") };
    let request = Request { classes: 3, positives: 6, unconditional: 2 };
    let expected = feed(&data).next(1, request).unwrap().ids;
    assert_eq!((*step, ids), (1, &expected));
    assert!(matches!(**source, StepError::Drift(_)));
    let start = "step 1: feature key global: class group 1, location 0: positive features hold NaN";
    assert!(error.to_string().starts_with(start), "{error}");
    assert_eq!((weights(&trainer), trainer.step_count()), (before, 1));
}

#[test]
fn remembered_scales_are_part_of_the_state() {
    let mut config = config();
    config.drift.scale_scope = ScaleScope::Ema;
    let (data, _) = config.data.open(config.generator.image).unwrap();
    let mut straight = Trainer::new(&config, feed(&data)).unwrap();
    for _ in 0..2 {
        straight.step().unwrap();
    }
    let copy = |tensors: BTreeMap<String, Tensor>| -> BTreeMap<String, Tensor> {
        tensors.into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect()
    };
    let (saved, mut state) = (copy(straight.generator().params().tensors()), copy(state(&straight)));
    assert_eq!(state["scale.patch_7"].dims(), [4]);
    let mut resumed = Trainer::new(&config, feed(&data)).unwrap();
    resumed.restore(saved.clone(), &state).unwrap();
    let (a, b) = (straight.step().unwrap(), resumed.step().unwrap());
    assert_eq!((a.loss, a.gradient_norm), (b.loss, b.gradient_norm));
    state.insert("scale.patch_7".into(), Tensor::new(&[1.0f64], &Device::Cpu).unwrap());
    let error = resumed.restore(saved, &state).unwrap_err().to_string();
    assert_eq!(error, "scale.patch_7: the checkpoint does not hold 4 f64 numbers for it");
}

/// Largest difference of two sets of weights, relative to the norm of each tensor.
fn apart(left: &[Vec<f32>], right: &[Vec<f32>]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let pair = |(left, right): (&Vec<f32>, &Vec<f32>)| {
        let differences = &mut left.iter().zip(right).map(|(l, r)| f64::from(l - r));
        norm(differences) / norm(&mut right.iter().map(|&r| f64::from(r))).max(1e-12)
    };
    left.iter().zip(right).map(pair).fold(0.0, f64::max)
}

#[test]
fn several_ranks_take_the_steps_of_one() {
    const STEPS: usize = 20;
    for (scope, at_once) in [
        (ScaleScope::Batch, 0),
        (ScaleScope::Batch, 1),
        (ScaleScope::Group, 0),
        (ScaleScope::Group, 1),
        (ScaleScope::Ema, 2),
    ] {
        let mut config = config();
        (config.batch.classes, config.batch.groups_at_once, config.drift.scale_scope) = (5, at_once, scope);
        let (data, _) = config.data.open(config.generator.image).unwrap();
        let run = |ranks: &dyn Ranks| {
            let mut trainer = Trainer::new(&config, feed(&data)).unwrap().among(ranks).unwrap();
            let reports: Vec<StepReport> = (0..STEPS).map(|_| trainer.step().unwrap()).collect();
            (reports, weights(&trainer))
        };
        let (alone, straight) = run(&Alone);
        for size in [2, 3] {
            let found = crate::ranks::together(size, run);
            for (reports, weights) in &found {
                assert!(*weights == found[0].1, "ranks differ");
                assert!(apart(weights, &straight) < 1e-5, "{scope:?} {at_once} {size}: {}", apart(weights, &straight));
                for (one, all) in reports.iter().zip(&alone) {
                    assert!((one.loss / all.loss - 1.0).abs() < 1e-5, "{scope:?} {at_once}: {} {}", one.loss, all.loss);
                    assert_eq!(one.keys.keys().collect::<Vec<_>>(), all.keys.keys().collect::<Vec<_>>());
                }
                // Before the first gradient, scales are the same to the last bit.
                let scales = |report: &StepReport| report.keys.values().map(|key| key.scale).collect::<Vec<_>>();
                assert_eq!(scales(&reports[0]), scales(&alone[0]), "{scope:?} {at_once} {size}");
            }
        }
    }
}

#[test]
fn more_ranks_than_class_groups_are_refused() {
    let config = config();
    let (data, _) = config.data.open(config.generator.image).unwrap();
    let found = crate::ranks::together(4, |ranks| {
        Trainer::new(&config, feed(&data)).unwrap().among(ranks).unwrap_err().to_string()
    });
    assert_eq!(found, vec!["batch.classes: 3 class groups for 4 processes: each needs one"; 4]);
}
