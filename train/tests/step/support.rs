//! The networks of the golden step: a published generator and a masked autoencoder with weights by rule.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use drifting_models::weights::{by_rule, import_generator, mae_from_tree, read};
use drifting_models::{Generator, Mae, nn};
use drifting_spec::{ImageShape, MaeConfig};
use drifting_train::features::{FeatureSpace, MaeEncoder};

use crate::device;

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// The folder that DRIFTING_GOLDEN names, else the project's own copy of its small files.
pub(crate) fn golden(name: &str) -> PathBuf {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from).join(name)
}

pub(crate) fn io(name: &str) -> Tensors {
    read(&golden(name).join("io.safetensors"), &Device::Cpu).unwrap().tensors
}

pub(crate) const LATENT: ImageShape = ImageShape { channels: 4, height: 32, width: 32 };

pub(crate) fn mae() -> Mae {
    let config = MaeConfig { blocks: [1, 2, 2, 1], ..MaeConfig::new(LATENT, 1, 32, 10) };
    let shapes = std::fs::read(golden("mae").join("tensors.json")).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_slice(&shapes).unwrap();
    let tree = shapes.iter().map(|(name, shape)| (name.clone(), by_rule(name, shape).unwrap())).collect();
    let source = nn::Source::Tensors(mae_from_tree(&config, tree).unwrap());
    Mae::frozen(config, source, &device()).unwrap()
}

/// All keys of the golden encoder.
pub(crate) fn space() -> FeatureSpace {
    FeatureSpace::new(LATENT, vec![Box::new(MaeEncoder::new(mae()))], &["all".to_owned()]).unwrap()
}

pub(crate) fn generator() -> Generator {
    let imported = import_generator(&golden("generator")).unwrap();
    Generator::new(imported.config, nn::Source::Tensors(imported.tensors), &device()).unwrap()
}

/// `[.., row, column, channel]` to `[.., channel, row, column]`.
pub(crate) fn channels_first(images: &Tensor) -> Tensor {
    let rank = images.rank();
    let order: Vec<usize> = (0..rank - 3).chain([rank - 1, rank - 3, rank - 2]).collect();
    images.permute(order).unwrap().contiguous().unwrap()
}

pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference, relative to the largest expected number.
#[track_caller]
pub(crate) fn difference(name: &str, found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len(), "{name}");
    let size = expected.iter().fold(0.0f64, |size, value| size.max(value.abs()));
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    // A NaN is the largest difference.
    differences.fold(0.0, |worst: f64, one| if one <= worst { worst } else { one }) / size
}
