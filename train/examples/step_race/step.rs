//! A whole training step: generator, features, drift, back, clipping, AdamW, moving averages.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use drifting_models::nn::Source;
use drifting_models::{Generator, Mae, weights};
use drifting_train::drift::Products;
use drifting_train::features::{FeatureSpace, MaeEncoder};
use drifting_train::optim::{Decay, Learner, Learning, Schedule, StepNorms};
use drifting_train::ranks::Alone;
use drifting_train::trainer::{Objective, RealImages, StepObjective, Timings};
use serde_json::{Value, json};

use crate::case::{self, Case, Tensors};
use crate::{Contender, write_json};

/// A case with its networks and the state of its optimizer.
pub(crate) struct Step {
    case: Case,
    generator: Generator,
    space: FeatureSpace,
    learner: Learner,
}

impl Step {
    pub(crate) fn new(case: Case, device: &Device) -> Self {
        let copies = |tensors: &Tensors| -> Tensors {
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.copy().unwrap())).collect()
        };
        let generator = Generator::new(case.generator.clone(), Source::Tensors(copies(&case.weights)), device).unwrap();
        let mae = Mae::frozen(case.mae.clone(), Source::Tensors(copies(&case.mae_weights)), device).unwrap();
        let space = FeatureSpace::new(case.generator.image, vec![Box::new(MaeEncoder::new(mae))], &case.keys).unwrap();
        // The rate of a run behind its warm-up.
        let learning = Learning {
            adamw: case.optimizer.adamw,
            clip: case.optimizer.clip,
            schedule: Schedule { lr: case.lr, warmup_steps: 0, decay: Decay::Constant },
            decays: &case.ema.decays,
        };
        let learner = Learner::new(learning, generator.params()).unwrap();
        Self { case, generator, space, learner }
    }

    fn step(&mut self) -> (Objective, StepNorms, BTreeMap<&'static str, f64>) {
        let (case, mut timings) = (&self.case, Timings::default());
        let objective = StepObjective {
            generator: &self.generator,
            space: &self.space,
            settings: &case.drift,
            sizes: case.sizes,
            inputs: &case.inputs,
            real: RealImages { positives: &case.positives, unconditional: &case.unconditional },
            weights: &case.guidance,
            past: &BTreeMap::new(),
            ranks: &Alone,
            groups: case.guidance.len(),
        };
        let found = objective.evaluate(0, &mut timings).unwrap();
        let started = Instant::now();
        let norms = self.learner.step(self.generator.params(), &found.gradients).unwrap();
        // A GPU may still be at it.
        self.generator.device().synchronize().unwrap();
        timings.optimizer += started.elapsed();
        (found, norms, timings.seconds())
    }
}

impl Contender for Step {
    fn once(&mut self) -> BTreeMap<&'static str, f64> {
        let (_, _, mut seconds) = self.step();
        // The images of the case are there.
        seconds.remove("data");
        seconds
    }
}

/// Writes a case, and what the first step makes of it.
pub(crate) fn write(name: &str, objective: Products, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let mut step = Step::new(case::open(name, objective), &Device::Cpu);
    let none = BTreeMap::new();
    weights::write(&folder.join(format!("{name}.safetensors")), &inputs(&step.case), &none).unwrap();
    let (found, norms, _) = step.step();
    let mut expected = Tensors::new();
    let average = step.learner.averages()[0].tensors().clone();
    for (part, tensors) in
        [("gradient", found.gradients), ("parameter", step.generator.params().tensors()), ("average", average)]
    {
        let named = tensors.into_iter().map(|(name, tensor)| (format!("{part}.{name}"), tensor.contiguous().unwrap()));
        expected.extend(named);
    }
    weights::write(&folder.join(format!("{name}.expected.safetensors")), &expected, &none).unwrap();
    let case = &step.case;
    let keys = step.space.keys();
    let settings = json!({
        "generator": case.generator,
        "mae": case.mae,
        "keys": keys.iter().map(|key| json!({ "name": key.name(), "locations": key.locations(), "dim": key.dim() })).collect::<Vec<_>>(),
        "temperatures": case.drift.temperatures,
        "groups": case.guidance.len(),
        "adamw": case.optimizer.adamw,
        "clip": case.optimizer.clip,
        "lr": case.lr,
        "decays": case.ema.decays,
        "expected": { "loss": found.loss, "gradient_norm": norms.gradient, "keys": found.keys },
    });
    write_json(folder, name, &settings);
}

/// Mean distances below which features are equal but for their rounding, another one in every program.
const CONSTANT: f64 = 1e-3;

/// Prints how far the first step on `device` is from what [`write`] found: the loss without keys that are constant, the norm of the
/// gradients, and all of them as one vector, relatively.
pub(crate) fn check(name: &str, objective: Products, folder: &Path, device: &Device) {
    let mut step = Step::new(case::open(name, objective), device);
    let (found, norms, _) = step.step();
    let settings = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
    let expected = serde_json::from_slice::<Value>(&settings).unwrap()["expected"].take();
    let relative = |found: f64, expected: f64| (found / expected - 1.0).abs();
    let number = |key: &str, name: &str| expected["keys"][key][name].as_f64().unwrap();
    let compared = || found.keys.iter().filter(|(key, _)| number(key, "scale") >= CONSTANT);
    let losses = (compared().map(|(_, key)| key.loss).sum(), compared().map(|(key, _)| number(key, "loss")).sum());
    let theirs = weights::read(&folder.join(format!("{name}.expected.safetensors")), &Device::Cpu).unwrap().tensors;
    let square = |tensor: &Tensor| {
        let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        numbers.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>()
    };
    let (mut apart, mut whole) = (0.0, 0.0);
    for (name, gradient) in &found.gradients {
        let theirs = &theirs[&format!("gradient.{name}")];
        apart += square(&(gradient.to_device(&Device::Cpu).unwrap() - theirs).unwrap());
        whole += square(theirs);
    }
    let differences = json!({
        "loss": relative(losses.0, losses.1),
        "gradient_norm": relative(norms.gradient, expected["gradient_norm"].as_f64().unwrap()),
        "gradients": (apart / whole).sqrt(),
    });
    println!("{differences}");
}

/// What the twin reads: weights under `generator` and `mae`, and the inputs of the step.
fn inputs(case: &Case) -> Tensors {
    let image = case.generator.image;
    let batch = case.inputs.batch();
    let images = |values: &[f32]| {
        let shape = (values.len() / image.len(), image.channels, image.height, image.width);
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    };
    let style = Tensor::from_slice(&case.inputs.style, (batch, case.generator.style_tokens), &Device::Cpu).unwrap();
    let mut tensors = BTreeMap::from([
        ("noise".to_owned(), images(&case.inputs.noise)),
        ("style".to_owned(), style),
        ("class".to_owned(), Tensor::from_slice(&case.inputs.class, batch, &Device::Cpu).unwrap()),
        ("alpha".to_owned(), Tensor::from_slice(&case.inputs.alpha, batch, &Device::Cpu).unwrap()),
        ("positives".to_owned(), images(&case.positives)),
        ("unconditional".to_owned(), images(&case.unconditional)),
        ("guidance".to_owned(), Tensor::from_slice(&case.guidance, case.guidance.len(), &Device::Cpu).unwrap()),
    ]);
    for (part, weights) in [("generator", &case.weights), ("mae", &case.mae_weights)] {
        tensors.extend(weights.iter().map(|(name, tensor)| (format!("{part}.{name}"), tensor.contiguous().unwrap())));
    }
    tensors
}
