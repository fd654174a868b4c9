//! Writes generators with random weights as ONNX files, for the checks in Python: no training, no download.
//!
//!     cargo run --release -p drifting-export --example random_models -- FOLDER tiny
//!     cargo run --release -p drifting-export --example random_models -- FOLDER latent-b2 ort
//!
//! `tiny` stands for the generators of the tests, one for each setting; the others are the published sizes. The profile is
//! `portable` unless named. Beside `NAME.PROFILE.onnx` lie `NAME.PROFILE.reference.safetensors`, five inputs and candle's
//! images of them, and, for a published size, `NAME.weights.safetensors`, which
//! `drifting export` reads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a tool for checks and benchmarks")]

#[path = "../tests/export/settings.rs"]
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::{Device, Tensor};
use drifting_export::{ExportSettings, Profile, model, reference};
use drifting_models::nn::Source;
use drifting_models::{Generator, weights};
use drifting_spec::{GeneratorConfig, Stream};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, name, profile) = match &arguments[..] {
        [folder, name] => (PathBuf::from(folder), name, Profile::default()),
        [folder, name, profile] => (PathBuf::from(folder), name, profile.parse().expect("the name of a profile")),
        _ => {
            eprintln!("usage: random_models FOLDER tiny|latent-b2|latent-l2|pixel-b16|pixel-l16 [PROFILE]");
            return ExitCode::FAILURE;
        }
    };
    fs::create_dir_all(&folder).unwrap();
    if name == "tiny" {
        for (name, config) in settings::settings() {
            write(&folder, &settings::file_name(name), &settings::generator(config), profile);
        }
        return ExitCode::SUCCESS;
    }
    let generator = random(GeneratorConfig::published(name).expect("the name of a published size"));
    write(&folder, name, &generator, profile);
    let path = folder.join(format!("{name}.weights.safetensors"));
    let manifest = settings::manifest(generator.config().clone()).to_json().unwrap();
    let header = BTreeMap::from([("manifest".to_owned(), manifest)]);
    weights::write(&path, &generator.params().tensors(), &header).unwrap();
    ExitCode::SUCCESS
}

fn write(folder: &Path, name: &str, generator: &Generator, profile: Profile) {
    let manifest = settings::manifest(generator.config().clone());
    let settings = ExportSettings { profile, ..ExportSettings::default() };
    let bytes = model(&manifest, &generator.params().tensors(), &settings).unwrap();
    weights::write_bytes(&folder.join(format!("{name}.{profile}.onnx")), &bytes).unwrap();
    drop(bytes);
    let path = folder.join(format!("{name}.{profile}.reference.safetensors"));
    weights::write(&path, &reference(generator, &manifest).unwrap(), &BTreeMap::new()).unwrap();
}

/// A generator as at the start of training, with a little noise on every parameter: none is left at zero.
fn random(config: GeneratorConfig) -> Generator {
    let start = Generator::new(config.clone(), Source::Seed(0), &Device::Cpu).unwrap().params().tensors();
    let noisy = |(name, tensor): (String, Tensor)| {
        let noise = Stream::new(1, &name, 0).normals(tensor.elem_count());
        let noise = (Tensor::from_vec(noise, tensor.dims(), &Device::Cpu).unwrap() * 0.02).unwrap();
        (name, (tensor + noise).unwrap())
    };
    Generator::new(config, Source::Tensors(start.into_iter().map(noisy).collect()), &Device::Cpu).unwrap()
}
