use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use drifting_models::weights::{self, MaeFile};

use super::evaluation::spread;
use super::*;
use crate::config::{ExperimentConfig, FinetuneSettings, MaeTrainConfig, RunSettings};
use crate::data::{Dataset, DirectBatches, Images};
use crate::ranks::Alone;
use crate::run::{self, Experiment, RunError};

const CONFIG: &str = r#"
    name = "test"
    steps = 8
    data = { embedded = "fashion-mnist" }
    mae = { image = { channels = 1, height = 28, width = 28 }, input_patch = 4, base_channels = 8, blocks = [1, 1, 1, 1], classes = 10, norm_groups = 2 }
    batch = { images = 6 }
    finetune = { steps = 4, ramp = 2 }
    schedule = { lr = 2e-3 }
    ema = { decays = [0.9] }
    evaluation = { every = 4, images = 20 }
"#;

fn config(change: &str) -> MaeTrainConfig {
    let ExperimentConfig::Mae(config) = ExperimentConfig::parse(CONFIG, "test", &[change.parse().unwrap()]).unwrap()
    else {
        panic!("a file with [mae] trains a masked autoencoder")
    };
    *config
}

fn data() -> Arc<Dataset> {
    let config = config("seed=1");
    Arc::new(config.data.open(config.mae.image).unwrap().0)
}

fn trainer<'a>(config: &'a MaeTrainConfig, data: &Arc<Dataset>) -> MaeTrainer<'a> {
    MaeTrainer::new(config, Box::new(DirectBatches::new(Arc::clone(data), config.seed))).unwrap()
}

#[test]
fn accumulated_gradients_are_those_of_the_whole_batch() {
    let data = data();
    let with_classes = |change: &str| {
        let config = config(change);
        MaeTrainConfig { finetune: FinetuneSettings { steps: config.steps, ..config.finetune }, ..config }
    };
    let (whole, parts) = (with_classes("batch.images_at_once=0"), with_classes("batch.images_at_once=4"));
    let (mut a, mut b) = (trainer(&whole, &data), trainer(&parts, &data));
    // The classes join in from the second step on.
    for _ in 0..2 {
        let (found, expected) = (b.step().unwrap(), a.step().unwrap());
        for (found, expected) in [
            (found.recon, expected.recon),
            (found.cross_entropy, expected.cross_entropy),
            (found.gradient_norm, expected.gradient_norm),
        ] {
            assert!((found - expected).abs() < 1e-3 * expected.abs(), "{found} {expected}");
        }
        assert_eq!((found.accuracy, found.class_weight), (expected.accuracy, expected.class_weight));
    }
}

#[test]
fn training_reconstructs_and_the_classes_join_in_at_the_end() {
    let config = MaeTrainConfig { steps: 40, ..config("batch.images=16") };
    let data = data();
    let mut trainer = trainer(&config, &data);
    let reports: Vec<_> = (0..40).map(|_| trainer.step().unwrap()).collect();
    let mean = |reports: &[MaeReport]| reports.iter().map(|report| report.recon).sum::<f64>() / reports.len() as f64;
    assert!(mean(&reports[35..]) < 0.7 * mean(&reports[..5]), "{} {}", mean(&reports[..5]), mean(&reports[35..]));
    let weights: Vec<f64> = reports[35..].iter().map(|report| report.class_weight).collect();
    assert_eq!(weights, [0.0, 0.0, 0.05, 0.1, 0.1]);
}

#[test]
fn without_weight_only_decay_moves_the_classifier() {
    let config = config("finetune.steps=0");
    let data = data();
    let mut trainer = trainer(&config, &data);
    let head = |trainer: &MaeTrainer<'_>| trainer.mae.params().get("fc.weight").unwrap().copy().unwrap();
    let before = head(&trainer);
    trainer.step().unwrap();
    let expected = (before * (1.0 - 2e-3 * 0.01)).unwrap();
    let worst = (head(&trainer) - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(worst < 1e-7, "{worst}");
}

#[test]
fn held_out_images_are_measured_with_every_set_of_weights() {
    let (config, data) = (config("seed=1"), data());
    let (test, _) = config.data.open_test(&data).unwrap().unwrap();
    let test = spread(&Images::of(Arc::new(test)), config.evaluation.images, None).unwrap();
    let batches = Box::new(DirectBatches::new(Arc::clone(&data), 1));
    let mut run = MaeRun::new(&config, batches, Some(test)).unwrap();
    run.step().unwrap();
    assert!(run.evaluate(false).unwrap().is_none(), "not due at step 1");
    let found = run.evaluate(true).unwrap().unwrap();
    assert_eq!(found["images"], 20);
    for weights in ["raw", "ema_0.9"] {
        let number = |part: &str, figure: &str| found[weights][part][figure].as_f64().unwrap();
        assert!(number("masked", "recon") > 0.0 && number("unmasked", "cross_entropy") > 0.0);
        assert!((0.0..=1.0).contains(&number("unmasked", "accuracy")));
    }
    assert_ne!(found["raw"]["masked"]["recon"], found["ema_0.9"]["masked"]["recon"]);
    assert!(run.picture().unwrap().unwrap().starts_with(b"\x89PNG"));
}

/// Is told what a run does and keeps nothing of it.
struct Deaf;

impl run::Observer for Deaf {
    fn started(&mut self, _: u64, _: &dyn RunSettings) {}
    fn stepped(&mut self, _: &run::Report) {}
    fn wrote(&mut self, _: &Path) {}
}

#[test]
fn numbers_that_are_not_finite_stop_the_run_and_name_its_images() {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, data) = (config("schedule.lr=1e30"), data());
    (config.output.checkpoint_every, config.output.samples_every) = (1, 0);
    let mut experiment = MaeRun::new(&config, Box::new(DirectBatches::new(data, 1)), None).unwrap();
    let (stop, build) = (AtomicBool::new(false), run::Build::default());
    let launch = run::Launch {
        folder: folder.path(),
        allow_changed: &[],
        build: &build,
        command: &[],
        stop: &stop,
        ranks: &Alone,
    };
    let error = run::train(&mut experiment, &launch, &mut Deaf).unwrap_err();
    let RunError::Step { step, ref images, .. } = error else { panic!("{error}") };
    assert!(images.starts_with("6 images of the data: "), "{images}");
    let failure = std::fs::read_to_string(folder.path().join("failure.json")).unwrap();
    let failure: serde_json::Value = serde_json::from_str(&failure).unwrap();
    assert_eq!((failure["step"].as_u64(), failure["images"].as_array().unwrap().len()), (Some(step), 6));
    let latest = run::RunFolder::open(folder.path()).unwrap().latest().unwrap().unwrap();
    assert!(step > 1 && latest.path().ends_with(format!("step_{:06}", step - 1)));
    weights::read(&latest.path().join("ema_0.9.safetensors"), &Device::Cpu).unwrap();
}

#[test]
fn the_weights_say_what_they_are() {
    let (config, data) = (config("seed=1"), data());
    let run = MaeRun::new(&config, Box::new(DirectBatches::new(data, 1)), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(run.export_name(0.9).unwrap());
    assert!(path.ends_with("mae_ema_0.9.safetensors"));
    weights::write(&path, run.averages()[0].tensors(), &run.describe(Some(0.9)).unwrap()).unwrap();
    let found = MaeFile::read(&path, &Device::Cpu).unwrap();
    assert_eq!(found.config, config.mae);
    assert!(found.metadata["provenance"].contains("\"ema_decay\":0.9"), "{}", found.metadata["provenance"]);
}

#[test]
fn data_that_do_not_fit_are_refused() {
    let (config, data) = (config("mae.classes=12"), data());
    let batches = Box::new(DirectBatches::new(data, 1));
    assert_eq!(MaeTrainer::new(&config, batches).unwrap_err().to_string(), "mae.classes: 12, the data have 10");
}
