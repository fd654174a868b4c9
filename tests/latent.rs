//! A generator of latents and its decoder: one file that is served, or two; and an encoder as a file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::path::{Path, PathBuf};

use candle_core::Device;
use common::{Server, Workspace};
use drifting_models::Mae;
use drifting_models::nn::Source;
use drifting_models::weights::MaeFile;
use drifting_spec::{ImageShape, MaeConfig};

fn golden(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect();
    path.to_string_lossy().into_owned()
}

fn report(path: &Path) -> serde_json::Value {
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(report["passed"], true, "{report}");
    assert!(report["runners"].as_array().unwrap().len() >= 3, "candle-onnx, ONNX Runtime, rten: {report}");
    report
}

fn pixels(bytes: &[u8]) -> image::RgbImage {
    image::load_from_memory(bytes).unwrap().into_rgb8()
}

/// A weight file of the tiny generator of latents that the authors' program made.
fn generator(workspace: &Workspace) {
    workspace.succeed(&["import", &golden("generator"), "--out", "generator.safetensors"]);
}

#[test]
fn a_latent_model_is_one_file_that_is_served() {
    let workspace = Workspace::new();
    generator(&workspace);
    let decoder = golden("vae");
    let mut parameters = Vec::new();
    for (name, kind) in [("float.onnx", "float"), ("levels.onnx", "uint8")] {
        workspace.succeed(&["export", "generator.safetensors", "--decoder", &decoder, "--pixels", kind, "--out", name]);
        parameters.push(report(&workspace.path("verify.json"))["parameters"].as_u64().unwrap());
    }
    assert!(parameters[0] == parameters[1] && parameters[0] > 100, "generator and decoder: {parameters:?}");

    let sample = |model: &str| {
        workspace.succeed(&["sample", model, "--class", "3", "--seed", "7", "-n", "1", "--out", "one.png"]);
        std::fs::read(workspace.path("one.png")).unwrap()
    };
    let (float, levels) = (sample("float.onnx"), sample("levels.onnx"));
    assert_eq!(pixels(&float).dimensions(), (64, 64));
    assert_eq!(float, levels, "the file rounds as the program does");

    let server = Server::start(&workspace, "levels.onnx");
    let (status, _, served) = server.request("POST", "/generate?class=3&seed=7");
    assert_eq!(status, 200);
    assert_eq!(pixels(&served), pixels(&levels), "drifting serve gives the same pixels");
}

#[test]
fn a_latent_model_is_two_files_and_latents_are_not_served() {
    let workspace = Workspace::new();
    generator(&workspace);
    let export = ["export", "generator.safetensors", "--decoder", &golden("vae"), "--parts", "--out", "model.onnx"];
    workspace.succeed(&export);
    report(&workspace.path("verify.json"));
    report(&workspace.path("model.decoder.verify.json"));
    let refused = workspace.fail(&["serve", "model.onnx"]);
    assert!(refused.contains("4 channels") && refused.contains("--decoder"), "{refused}");
    let refused = workspace.fail(&["serve", "model.decoder.onnx"]);
    assert!(refused.contains("model.decoder.onnx"), "{refused}");

    let taef2 = golden("../weights/taef2_dec.safetensors");
    let refused = workspace.fail(&["export", "generator.safetensors", "--decoder", &taef2, "--out", "other.onnx"]);
    assert!(refused.contains("latents of 4 channels, the decoder reads 32"), "{refused}");
    assert!(!workspace.path("other.onnx").exists());
}

#[test]
fn an_encoder_and_a_decoder_are_files_of_their_own() {
    let workspace = Workspace::new();
    // Groups of many numbers: of two that are nearly equal, a norm makes anything.
    let image = ImageShape { channels: 1, height: 32, width: 24 };
    let config = MaeConfig { blocks: [1, 2, 1, 1], norm_groups: 4, ..MaeConfig::new(image, 2, 8, 3) };
    let mae = Mae::new(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
    MaeFile::write(&workspace.path("mae.safetensors"), &config, &mae.params().tensors(), Default::default()).unwrap();
    workspace.succeed(&["export", "mae.safetensors", "--network", "encoder", "--out", "encoder.onnx"]);
    report(&workspace.path("encoder.verify.json"));

    let refused = workspace.fail(&[
        "export",
        "mae.safetensors",
        "--network",
        "encoder",
        "--pixels",
        "uint8",
        "--out",
        "levels.onnx",
    ]);
    assert!(refused.contains("feature maps"), "{refused}");

    let taef2 = golden("../weights/taef2_dec.safetensors");
    let export = |size: &'static str| {
        ["export", &taef2, "--network", "decoder", "--size", size, "--pixels", "uint8", "--out", "decoder.onnx"]
            .map(str::to_owned)
    };
    let arguments = export("16x24");
    workspace.succeed(&arguments.each_ref().map(String::as_str));
    report(&workspace.path("decoder.verify.json"));
    let arguments = export("20");
    let refused = workspace.fail(&arguments.each_ref().map(String::as_str));
    assert!(refused.contains("multiples of 8"), "{refused}");
}
