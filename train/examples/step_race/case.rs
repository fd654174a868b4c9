//! What is computed: networks, batch and settings of each case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use drifting_models::nn::Source;
use drifting_models::{Generator, Mae};
use drifting_spec::{GeneratorConfig, Inputs, MaeConfig, Stream};
use drifting_train::config::{EmaSettings, ExperimentConfig, OptimizerSettings, Override, TrainConfig};
use drifting_train::drift::{DriftSettings, Products, guidance_weight};
use drifting_train::trainer::GroupSizes;

use crate::golden;

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// Everything that a step depends on.
pub(crate) struct Case {
    pub(crate) generator: GeneratorConfig,
    pub(crate) weights: Tensors,
    pub(crate) mae: MaeConfig,
    pub(crate) mae_weights: Tensors,
    /// Feature keys by name or pattern.
    pub(crate) keys: Vec<String>,
    pub(crate) sizes: GroupSizes,
    pub(crate) inputs: Inputs,
    pub(crate) positives: Vec<f32>,
    pub(crate) unconditional: Vec<f32>,
    /// Guidance weight of each class group.
    pub(crate) guidance: Vec<f32>,
    pub(crate) drift: DriftSettings,
    pub(crate) optimizer: OptimizerSettings,
    pub(crate) ema: EmaSettings,
    pub(crate) lr: f64,
}

const YARDSTICK: [&str; 7] = [
    "generator.hidden=128",
    "generator.depth=4",
    "generator.heads=2",
    "generator.patch=4",
    "batch.generated=16",
    "batch.positives=16",
    "batch.unconditional=8",
];

/// The whole steps, and the yardstick with more or less of one thing at a time.
pub(crate) fn family() -> Vec<(String, Case)> {
    let mut cases: Vec<_> =
        ["fashion", "yardstick", "latent-b2-small"].map(|name| (name.to_owned(), named(name))).into();
    let mut add = |name: &str, changes: &[&str], width| {
        cases.push((format!("yardstick, {name}"), latent(&[&YARDSTICK[..], changes].concat(), width)));
    };
    for classes in [1, 2, 8] {
        add(&format!("{classes} classes"), &[&format!("batch.classes={classes}")], 32);
    }
    for images in [4, 8, 32] {
        let sets = [("generated", images), ("positives", images), ("unconditional", images / 2)];
        let changes = sets.map(|(set, images)| format!("batch.{set}={images}"));
        add(&format!("{images} generated"), &changes.each_ref().map(String::as_str), 32);
    }
    for (hidden, heads, width) in [(64, 1, 16), (256, 4, 64), (384, 6, 96)] {
        let changes = [format!("generator.hidden={hidden}"), format!("generator.heads={heads}")];
        let name = format!("hidden {hidden}, encoder {width}");
        add(&name, &changes.each_ref().map(String::as_str), width);
    }
    cases
}

/// The case of this name, the products of its objective in this precision.
pub(crate) fn open(name: &str, objective: Products) -> Case {
    let mut case = named(name);
    case.drift.products = objective;
    case
}

fn named(name: &str) -> Case {
    match name {
        "fashion" => {
            let encoder = ExperimentConfig::load(&repository("configs/mae/fashion.toml"), &[]).unwrap();
            let ExperimentConfig::Mae(encoder) = encoder else { panic!("configs/mae/fashion.toml trains no encoder") };
            seeded(&train("configs/fashion.toml", &[]), encoder.mae)
        }
        "yardstick" => latent(&YARDSTICK, 32),
        "latent-b2-small" => {
            let sizes = ["generator.hidden=384", "generator.depth=4", "generator.heads=6"];
            let batch = ["batch.generated=8", "batch.positives=8", "batch.unconditional=4"];
            latent(&[&sizes[..], &batch].concat(), 64)
        }
        "golden" => golden::case(),
        _ => panic!("{name} is none of fashion, yardstick, latent-b2-small, golden, objective-CLASSES"),
    }
}

/// The paper's latent ablation with four classes a step and these changes, in the features of an encoder of `width`.
fn latent(changes: &[&str], width: usize) -> Case {
    let config = train("configs/table8/ablation.toml", &[&["batch.classes=4"], changes].concat());
    let mae = MaeConfig::new(config.generator.image, 1, width, config.generator.classes);
    seeded(&config, mae)
}

fn train(path: &str, changes: &[&str]) -> TrainConfig {
    let changes: Vec<Override> = changes.iter().map(|change| change.parse().unwrap()).collect();
    TrainConfig::load(&repository(path), &changes).unwrap()
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The step of a configuration with random weights and images.
fn seeded(config: &TrainConfig, mae: MaeConfig) -> Case {
    let batch = config.batch;
    let sizes =
        GroupSizes { generated: batch.generated, positives: batch.positives, unconditional: batch.unconditional };
    let alphas: Vec<f32> =
        (0..batch.classes).map(|group| config.alpha.quantile((group as f64 + 0.5) / batch.classes as f64)).collect();
    let conditions: Vec<_> =
        alphas.iter().enumerate().flat_map(|(class, &alpha)| vec![(class, alpha); sizes.generated]).collect();
    let images = |name, count: usize| Stream::new(1, name, 0).normals(batch.classes * count * mae.image.len());
    let generator = Generator::new(config.generator.clone(), Source::Seed(1), &Device::Cpu).unwrap();
    let encoder = Mae::new(mae.clone(), Source::Seed(2), &Device::Cpu).unwrap();
    Case {
        weights: noisy(generator.params().tensors()),
        mae_weights: noisy(encoder.params().tensors()),
        keys: config.features.keys.clone(),
        sizes,
        inputs: Inputs::seeded(&config.generator, 3, &conditions),
        positives: images("positives", sizes.positives),
        unconditional: images("unconditional", sizes.unconditional),
        guidance: alphas.iter().map(|&alpha| guidance_weight(alpha, sizes.generated, sizes.unconditional)).collect(),
        drift: config.drift.clone(),
        optimizer: config.optimizer,
        ema: config.ema.clone(),
        lr: config.schedule.lr,
        generator: config.generator.clone(),
        mae,
    }
}

/// A little noise on every parameter: none is left at zero or one, as at the start of training.
fn noisy(tensors: Tensors) -> Tensors {
    let noisy = |(name, tensor): (String, Tensor)| {
        let noise = Stream::new(4, &name, 0).normals(tensor.elem_count());
        let noise = (Tensor::from_vec(noise, tensor.dims(), &Device::Cpu).unwrap() * 0.02).unwrap();
        (name, (tensor + noise).unwrap())
    };
    tensors.into_iter().map(noisy).collect()
}
