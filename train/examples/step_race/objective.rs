//! The drift objective alone, on the map 8 x 8 x 1024 of the paper's ablation (`layer3` of an encoder of width 256): every class
//! group has 64 generated, 64 positive and 16 unconditional images.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use drifting_models::ops::{Values, fused};
use drifting_models::weights;
use drifting_spec::Stream;
use drifting_train::drift::{
    DriftSettings, Features, KeyBatch, KeyOutcome, KeyScale, KeyShape, Products, TensorBatch, TensorMeans,
    TensorMeasured, TensorTargets, drift_key, guidance_weight,
};
use rayon::prelude::*;
use serde_json::json;

use crate::{Contender, write_json};

const LOCATIONS: usize = 64;
const DIM: usize = 1024;
const GENERATED: usize = 64;
const POSITIVES: usize = 64;
const UNCONDITIONAL: usize = 16;
/// Guidance of every class group.
const ALPHA: f32 = 1.5;

/// Features of all class groups.
pub(crate) struct Objective {
    classes: usize,
    generated: Tensor,
    positives: Tensor,
    unconditional: Tensor,
    settings: DriftSettings,
    device: Device,
}

impl Objective {
    /// Reads what [`write`] wrote.
    pub(crate) fn read(case: &str, folder: &Path, device: &Device, products: Products) -> Self {
        let path = folder.join(format!("{case}.safetensors"));
        let mut tensors = weights::read(&path, device).unwrap().tensors;
        let mut take = |name: &str| tensors.remove(name).unwrap();
        let classes = take("guidance").elem_count();
        let [generated, positives, unconditional] = ["generated", "positives", "unconditional"].map(take);
        Self {
            classes,
            generated,
            positives,
            unconditional,
            settings: DriftSettings { products, ..DriftSettings::default() },
            device: device.clone(),
        }
    }

    fn evaluate(&self) -> (KeyOutcome, KeyScale) {
        let [generated, positives, unconditional] =
            [&self.generated, &self.positives, &self.unconditional].map(|set| Values::of(set).unwrap());
        let weight = vec![guidance_weight(ALPHA, GENERATED, UNCONDITIONAL); self.classes];
        let features =
            Features { generated: &generated, positives: &positives, unconditional: &unconditional, weight: &weight };
        drift_key(&KeyBatch::new("layer3", self.shape(), features).unwrap(), &self.settings).unwrap()
    }

    fn evaluate_on_device(&self) {
        let weight = vec![guidance_weight(ALPHA, GENERATED, UNCONDITIONAL); self.classes];
        let real = Tensor::cat(&[&self.positives, &self.unconditional], 0).unwrap();
        let targets = TensorTargets::new(self.shape(), &weight, &self.device).unwrap();
        let batch = TensorBatch::new("layer3", self.shape(), &self.generated, &real, &targets).unwrap();
        let measured = TensorMeasured::new(batch, &self.settings).unwrap();
        let pooled = |means: &TensorMeans| means.pool(self.settings.scale_scope).unwrap();
        let drifts = measured.drifts(&pooled(measured.distance_means())).unwrap();
        drifts.outcome(&pooled(drifts.square_means()), self.classes).unwrap();
        self.device.synchronize().unwrap();
    }

    fn shape(&self) -> KeyShape {
        KeyShape {
            groups: self.classes,
            locations: LOCATIONS,
            generated: GENERATED,
            positives: POSITIVES,
            unconditional: UNCONDITIONAL,
            dim: DIM,
        }
    }
}

impl Contender for Objective {
    fn once(&mut self) -> BTreeMap<&'static str, f64> {
        match fused(&self.device) {
            true => drop(self.evaluate()),
            false => self.evaluate_on_device(),
        }
        BTreeMap::new()
    }
}

/// Writes features of `classes` class groups, and the loss and the norm of its gradient.
pub(crate) fn write(case: &str, classes: usize, products: Products, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let guidance = vec![guidance_weight(ALPHA, GENERATED, UNCONDITIONAL); classes];
    let tensors = BTreeMap::from([
        ("generated".to_owned(), features("generated", classes * GENERATED)),
        ("positives".to_owned(), features("positives", classes * POSITIVES)),
        ("unconditional".to_owned(), features("unconditional", classes * UNCONDITIONAL)),
        ("guidance".to_owned(), Tensor::from_vec(guidance, classes, &Device::Cpu).unwrap()),
    ]);
    weights::write(&folder.join(format!("{case}.safetensors")), &tensors, &BTreeMap::new()).unwrap();
    drop(tensors);
    let objective = Objective::read(case, folder, &Device::Cpu, products);
    let (outcome, scale) = objective.evaluate();
    let norm = outcome.gradient.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let settings = json!({
        "groups": classes,
        "keys": [{ "name": "layer3", "locations": LOCATIONS, "dim": DIM }],
        "temperatures": objective.settings.temperatures,
        "expected": {
            "loss": outcome.loss,
            "gradient_norm": norm,
            "keys": { "layer3": { "scale": scale.distance, "drift": scale.squares, "loss": outcome.loss } },
        },
    });
    write_json(folder, case, &settings);
}

/// `[images, T, D]` of independent normal numbers.
fn features(name: &str, images: usize) -> Tensor {
    let mut values = vec![0.0; images * LOCATIONS * DIM];
    values.par_chunks_mut(LOCATIONS * DIM).enumerate().for_each(|(image, values)| {
        let mut stream = Stream::new(1, name, image as u64);
        values.iter_mut().for_each(|value| *value = stream.normal() as f32);
    });
    Tensor::from_vec(values, (images, LOCATIONS, DIM), &Device::Cpu).unwrap()
}
