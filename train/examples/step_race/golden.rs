//! The training step of the authors' program, whose numbers lie in `tests/golden/step`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use drifting_models::weights::{by_rule, import_generator, mae_from_tree, read};
use drifting_spec::{ImageShape, Inputs, MaeConfig};
use drifting_train::config::{EmaSettings, OptimizerSettings};
use drifting_train::drift::DriftSettings;
use drifting_train::optim::AdamWSettings;
use drifting_train::trainer::GroupSizes;

use crate::case::{Case, Tensors, repository};

/// Inputs, networks and settings of the golden step.
pub(crate) fn case() -> Case {
    let io = read(&folder("step").join("io.safetensors"), &Device::Cpu).unwrap().tensors;
    let generator = import_generator(&folder("generator")).unwrap();
    let sizes = GroupSizes { generated: 4, positives: 4, unconditional: 3 };
    let image = ImageShape { channels: 4, height: 32, width: 32 };
    let mae = MaeConfig { blocks: [1, 2, 2, 1], ..MaeConfig::new(image, 1, 32, 10) };
    let (alpha, label, hyper) = (floats(&io["alpha"]), floats(&io["label"]), floats(&io["hyper"]));
    let group = |image: usize| image / sizes.generated;
    let images = alpha.len() * sizes.generated;
    let number = |at: usize| f64::from(hyper[at]);
    Case {
        mae_weights: mae_weights(&mae),
        keys: vec!["all".to_owned()],
        sizes,
        inputs: Inputs {
            noise: channels_first(&io["noise"]),
            style: io["style"].to_dtype(DType::I64).unwrap().flatten_all().unwrap().to_vec1().unwrap(),
            class: (0..images).map(|image| label[group(image)] as i64).collect(),
            alpha: (0..images).map(|image| alpha[group(image)]).collect(),
        },
        positives: channels_first(&io["positive"]),
        unconditional: channels_first(&io["unconditional"]),
        guidance: floats(&io["weight"]),
        drift: DriftSettings::default(),
        optimizer: OptimizerSettings {
            adamw: AdamWSettings { beta1: number(1), beta2: number(2), epsilon: number(3), weight_decay: number(4) },
            clip: number(5),
        },
        ema: EmaSettings { decays: vec![number(6)] },
        lr: number(0),
        generator: generator.config,
        weights: generator.tensors,
        mae,
    }
}

/// The folder that DRIFTING_GOLDEN names, else the project's own copy of its small files.
fn folder(name: &str) -> PathBuf {
    let own = || repository("tests/golden");
    std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from).join(name)
}

fn mae_weights(config: &MaeConfig) -> Tensors {
    let shapes = std::fs::read(folder("mae").join("tensors.json")).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_slice(&shapes).unwrap();
    let tree = shapes.iter().map(|(name, shape)| (name.clone(), by_rule(name, shape).unwrap())).collect();
    mae_from_tree(config, tree).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The numbers of `[.., row, column, channel]` in the order `[.., channel, row, column]`.
fn channels_first(images: &Tensor) -> Vec<f32> {
    let rank = images.rank();
    let order: Vec<usize> = (0..rank - 3).chain([rank - 1, rank - 3, rank - 2]).collect();
    floats(&images.permute(order).unwrap().contiguous().unwrap())
}
