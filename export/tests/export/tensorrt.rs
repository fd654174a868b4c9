//! TensorRT's own parser and builder on the exported files. Neither a GPU nor a driver is needed.

use std::path::{Path, PathBuf};

use drifting_export::{ExportSettings, Network, Profile, model};
use drifting_models::nn::Source;
use drifting_models::{Generator, weights};
use drifting_spec::{GeneratorConfig, Pixels};

use crate::networks::{decoders, encoders, image_models, network_bytes_with};
use crate::python::{command, offline};
use crate::settings::{file_name, generator, manifest, settings, tiny};

/// Whether pip has TensorRT's libraries for this machine, and may be asked for them.
fn available() -> bool {
    let platform = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    if !platform {
        println!("skipped: pip has TensorRT-RTX for Linux on x86-64 only");
    }
    platform && !offline()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(format!("{}.onnx", file_name(name)));
    weights::write_bytes(&path, bytes).unwrap();
    path
}

/// The profiles that are made for TensorRT.
fn profiles() -> [ExportSettings; 2] {
    [Profile::Portable, Profile::Fp16].map(|profile| ExportSettings { profile, ..ExportSettings::default() })
}

fn bytes(generator: &Generator, settings: &ExportSettings) -> Vec<u8> {
    let manifest = manifest(generator.config().clone());
    model(&manifest, &generator.params().tensors(), settings).unwrap()
}

/// What the script says about the files, and whether all of them were accepted.
fn check(files: &[PathBuf]) -> (String, bool) {
    let output = command("check_tensorrt.py", "tensorrt.txt").args(files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    (format!("{said}\n{}", String::from_utf8_lossy(&output.stderr)), output.status.success())
}

#[test]
fn tensorrt_builds_an_engine_of_every_network_and_setting() {
    if !available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for export in profiles() {
        let mut add = |name: &str, bytes: &[u8]| {
            files.push(write(folder.path(), &format!("{name} {}", export.profile), bytes));
        };
        for (name, config) in settings() {
            add(name, &bytes(&generator(config), &export));
        }
        image_models(&mut |name, network, manifest| {
            add(&name, &model(&manifest, &network.tensors(), &export).unwrap());
        });
        for (name, decoder, latent) in decoders() {
            let network = Network::Decoder { decoder: &decoder, latent, pixels: Pixels::Float };
            add(name, &network_bytes_with(network, &export));
        }
        for (name, mae) in encoders() {
            add(name, &network_bytes_with(Network::Encoder(&mae), &export));
        }
    }
    let (said, accepted) = check(&files);
    assert!(accepted, "{said}");
    assert_eq!(said.matches(": accepted").count(), files.len(), "{said}");
    for (file, line) in files.iter().zip(said.lines().filter(|line| line.contains(": accepted"))) {
        let half = file.to_string_lossy().contains("fp16");
        assert_eq!(line.contains(" HALF"), half, "{line}");
    }
}

#[test]
fn tensorrt_builds_an_engine_of_a_published_size() {
    if !available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = GeneratorConfig::published("latent-b2").unwrap();
    let generator = Generator::new(config, Source::Seed(0), &candle_core::Device::Cpu).unwrap();
    for export in profiles() {
        let file = write(folder.path(), &format!("latent-b2 {}", export.profile), &bytes(&generator, &export));
        let (said, accepted) = check(&[file]);
        assert!(accepted, "{said}");
    }
}

/// Else the tests above might accept anything.
#[test]
fn tensorrt_refuses_an_unknown_operator_and_half_a_file() {
    if !available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let good = bytes(&generator(tiny()), &ExportSettings::default());
    let mut unknown = good.clone();
    // A node's operator as protobuf has it: field 4, seven letters.
    let place = unknown.windows(9).position(|window| window == b"\x22\x07Softmax").unwrap();
    unknown[place + 2..place + 9].copy_from_slice(b"Sofamax");
    let files: Vec<_> = [("unknown", &unknown[..]), ("half", &good[..good.len() / 2])]
        .into_iter()
        .map(|(name, bytes)| write(folder.path(), name, bytes))
        .collect();
    let (said, accepted) = check(&files);
    assert!(!accepted, "{said}");
    assert_eq!(said.matches(": REFUSED").count(), files.len(), "{said}");
}
