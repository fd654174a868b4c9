//! The published ResNet-56 against PyTorch's numbers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

mod golden;

use candle_core::{DType, Device};
use drifting_models::Judgement;
use drifting_models::resnet::Resnet56;

use self::golden::{agree, folder, io};

#[test]
fn golden_resnet56_judges_the_same() {
    let path = folder("../weights/cifar10-resnet56-4bfd9763.safetensors");
    let model = Resnet56::open(&path, &Device::Cpu).unwrap();
    let io = io("resnet56");
    let images = io["image"].to_dtype(DType::F32).unwrap().affine(2.0 / 255.0, -1.0).unwrap();
    let Judgement { features, logits } = model.forward(&images).unwrap();
    agree("resnet56 feature", &features, &io["feature"]);
    agree("resnet56 logits", &logits, &io["logits"]);
}
