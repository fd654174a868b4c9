//! The FID Inception against the numbers of pytorch-fid, and torchvision's against torchvision's, with weights by the rule of the golden data.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

mod golden;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use drifting_models::Judgement;
use drifting_models::inception::{Inception, Preparation, Variant};
use drifting_models::nn::Source;

use self::golden::{agree, folder, io};

/// Number `i` of the tensor `name`, in [-1, 1).
fn noise(name: &str, i: usize) -> f64 {
    let hash = name.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut x = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(hash);
    x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    f64::from(x ^ (x >> 16)) / f64::from(1u32 << 31) - 1.0
}

fn tensor(name: &str, shape: &[usize]) -> Tensor {
    let bound = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
    let value = |u: f64| match name {
        _ if shape.len() >= 2 => u * bound,
        _ if name.ends_with(".running_var") => 1.0 + 0.3 * u,
        _ if name.ends_with(".bn.weight") => 1.0 + 0.1 * u,
        _ => 0.1 * u,
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| value(noise(name, i)) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A network with weights by the rule.
fn model(variant: Variant) -> Inception {
    let shapes = std::fs::read(folder("inception").join("tensors.json")).unwrap();
    let mut shapes: BTreeMap<String, Vec<usize>> = serde_json::from_slice(&shapes).unwrap();
    for name in ["fc.weight", "fc.bias"] {
        shapes.get_mut(name).unwrap()[0] = variant.classes();
    }
    let tensors = shapes.iter().filter(|(_, shape)| !shape.is_empty());
    let tensors = tensors.map(|(name, shape)| (name.clone(), tensor(name, shape))).collect();
    Inception::new(variant, Source::Tensors(tensors), Preparation::PytorchFid, &Device::Cpu).unwrap()
}

fn images(io: &BTreeMap<String, Tensor>) -> Tensor {
    io["image"].to_dtype(DType::F32).unwrap().affine(2.0 / 255.0, -1.0).unwrap()
}

#[test]
fn golden_inception_judges_the_same() {
    let (model, io) = (model(Variant::Fid), io("inception"));
    let images = images(&io);
    for (i, map) in model.encode(&images).unwrap().into_iter().take(3).enumerate() {
        agree(&map.name, &map.map.mean((1, 2)).unwrap(), &io[&format!("block{i}_mean")]);
    }
    let Judgement { features, logits } = model.forward(&images).unwrap();
    agree("pool3", &features, &io["pool3"]);
    agree("logits", &logits, &io["logits"]);
}

// Made with torchvision 0.29.2: images in [0, 1] resized to 299, normalised by ImageNet's statistics, `transform_input` on.
#[test]
fn golden_inception_of_torchvision_judges_the_same() {
    let (model, io) = (model(Variant::Torchvision), io("inception-torchvision"));
    let Judgement { features, logits } = model.forward(&images(&io)).unwrap();
    agree("pool3", &features, &io["pool3"]);
    agree("logits", &logits, &io["logits"]);
}
