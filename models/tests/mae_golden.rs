//! A masked autoencoder with weights by rule against the numbers of its authors' program.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use drifting_models::weights::{by_rule, mae_from_tree, read};
use drifting_models::{Mae, nn};
use drifting_spec::{ImageShape, MaeConfig};

/// Largest difference from the reference, relative to its largest number.
const BAR: f64 = 1e-4;

/// The folder that DRIFTING_GOLDEN names, else the project's own copy of its small files.
fn golden(name: &str) -> PathBuf {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from).join(name)
}

struct Golden {
    mae: Mae,
    io: BTreeMap<String, Tensor>,
    worst: f64,
}

impl Golden {
    fn new() -> Self {
        let folder = golden("mae");
        let config = MaeConfig {
            blocks: [1, 2, 2, 1],
            ..MaeConfig::new(ImageShape { channels: 4, height: 32, width: 32 }, 1, 32, 10)
        };
        let shapes = fs::read(folder.join("tensors.json")).unwrap();
        let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_slice(&shapes).unwrap();
        let tree = shapes.iter().map(|(name, shape)| (name.clone(), by_rule(name, shape).unwrap())).collect();
        let source = nn::Source::Tensors(mae_from_tree(&config, tree).unwrap());
        let mae = Mae::frozen(config, source, &Device::Cpu).unwrap();
        let io = read(&folder.join("io.safetensors"), &Device::Cpu).unwrap().tensors;
        Self { mae, io, worst: 0.0 }
    }

    fn input(&self) -> Tensor {
        self.io["input"].permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
    }

    /// Holds numbers against the reference `name`.
    fn check(&mut self, name: &str, found: &[f64]) {
        let expected = &self.io[name];
        let expected = expected.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        let size = expected.iter().fold(0.0f64, |size, value| size.max(value.abs()));
        let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / size;
        assert!(difference <= BAR, "{name}: relative difference {difference:.2e}");
        self.worst = self.worst.max(difference);
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Per image: the first 8 numbers of all images, the sums, the sums of squares.
fn digest(feature: &Tensor) -> [Vec<f64>; 3] {
    let images: Vec<Vec<f64>> = (0..feature.dim(0).unwrap()).map(|i| numbers(&feature.get(i).unwrap())).collect();
    let head = images.iter().flat_map(|image| image[..image.len().min(8)].to_vec()).collect();
    let sums = images.iter().map(|image| image.iter().sum()).collect();
    [head, sums, images.iter().map(|image| image.iter().map(|value| value * value).sum()).collect()]
}

#[test]
fn golden_maps_are_the_same() {
    let mut golden = Golden::new();
    let maps = golden.mae.encode(&golden.input()).unwrap();
    for map in &maps {
        // The patched input is in the reference as one number per channel.
        let (name, feature) = match map.name.as_str() {
            "x" => ("norm_x", (map.map.sqr().unwrap().mean((1, 2)).unwrap() + 1e-6).unwrap().sqrt().unwrap()),
            name => (name, map.map.clone()),
        };
        let [head, sum, sumsq] = digest(&feature);
        golden.check(&format!("feature.{name}.head"), &head);
        // A sum may cancel: it is held against the size of what was summed.
        let scale: f64 = numbers(&feature).iter().map(|value| value.abs()).sum();
        let expected = numbers(&golden.io[&format!("feature.{name}.sum")]);
        for (found, expected) in sum.iter().zip(expected) {
            assert!((found - expected).abs() <= BAR * scale, "{name}: sum {found}, expected {expected}");
        }
        golden.check(&format!("feature.{name}.sumsq"), &sumsq);
    }
    println!("golden mae: {} maps, worst relative difference {:.2e}", maps.len(), golden.worst);
    assert_eq!(maps.len(), 8);
}

#[test]
fn golden_reconstruction_is_the_same() {
    let mut golden = Golden::new();
    let mask = golden.io["mask"].squeeze(3).unwrap();
    let found = golden.mae.reconstruct(&golden.input(), &mask).unwrap();
    golden.check("recon", &numbers(&found.recon));
    golden.check("logits", &numbers(&found.logits));
    golden.check("recon_loss", &numbers(&found.loss(&mask).unwrap()));
    println!("golden mae reconstruction: worst relative difference {:.2e}", golden.worst);
}
