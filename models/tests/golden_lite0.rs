//! The published EfficientNet-Lite0 against PyTorch's numbers. The weights are fetched, by the tool that users have for it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

mod golden;

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device};
use drifting_models::Judgement;
use drifting_models::efficientnet::EfficientNetLite0;

use self::golden::{agree, io};

fn weights() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("weights");
    let fetched = Command::new(root.join("tools/fetch-weights")).arg("lite0").arg(folder).output();
    let fetched = fetched.unwrap_or_else(|error| panic!("tools/fetch-weights cannot be started: {error}"));
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    PathBuf::from(String::from_utf8(fetched.stdout).unwrap().trim())
}

// Made with efficientnet-lite-pytorch 0.1.0 on PyTorch 2.15: images of 96 x 96 as (level - 127) / 128.
#[test]
fn golden_lite0_judges_the_same() {
    let io = io("lite0");
    let images = io["image"].to_dtype(DType::F32).unwrap().affine(2.0 / 255.0, -1.0).unwrap();
    let model = EfficientNetLite0::open(&weights(), images.dim(3).unwrap(), &Device::Cpu).unwrap();
    assert!(model.sha256().starts_with("57934424"), "{}", model.sha256());
    let Judgement { features, logits } = model.forward(&images).unwrap();
    agree("lite0 feature", &features, &io["feature"]);
    agree("lite0 logits", &logits, &io["logits"]);
}
