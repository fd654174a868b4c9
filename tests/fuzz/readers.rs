//! What is read: every kind of file that comes from outside, as the command reads it.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use drifting_export::{ExportSettings, graph, model};
use drifting_models::nn::Source;
use drifting_models::weights::{self, ImportedNetwork};
use drifting_models::{Generator, autoencoder};
use drifting_serve::Model;
use drifting_serve::engine::{self, EngineChoice, EngineSettings};
use drifting_spec::{AlphaRange, GeneratorConfig, ImageShape, Inputs, Manifest};
use drifting_train::run::ModelFile;
use tempfile::TempDir;

use crate::Target;
use crate::mutate::{Random, bytes, json, protobuf};

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The graph, the manifest within and rten.
    Onnx,
    Manifest,
    /// Weight files of generators.
    Safetensors,
    /// Artefacts in flax's msgpack.
    Msgpack,
    /// Folders of autoencoders.
    Autoencoder,
    /// PyTorch's weight files, in both formats.
    Zipped,
    Pickled,
}

/// A reader and a valid file for it.
pub(crate) struct Reader {
    kind: Kind,
    folder: TempDir,
    /// The file that is changed, and the one beside it.
    valid: (Vec<u8>, Vec<u8>),
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn manifest() -> Manifest {
    let image = ImageShape { channels: 1, height: 4, width: 4 };
    let config = GeneratorConfig::new(image, 2, 8, 1, 2, 3);
    let config = GeneratorConfig { style_tokens: 2, style_codes: 3, registers: 1, ..config };
    Manifest::new("tiny".into(), config, AlphaRange { min: 1.0, max: 4.0, default: 1.5 })
}

fn generator() -> Generator {
    Generator::new(manifest().generator, Source::Seed(1), &Device::Cpu).unwrap()
}

/// The generator's file.
pub(crate) fn onnx() -> Vec<u8> {
    model(&manifest(), &generator().params().tensors(), &ExportSettings::default()).unwrap()
}

/// A weight file as `drifting import` writes it.
fn safetensors(folder: &Path) -> Vec<u8> {
    let path = folder.join("valid.safetensors");
    let config = serde_json::to_string(&manifest().generator).unwrap();
    let header = [("config", config.as_str()), ("step", "7"), ("ema_decay", "0.999")];
    let header = header.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    weights::write(&path, &generator().params().tensors(), &header).unwrap();
    fs::read(path).unwrap()
}

impl Reader {
    pub(crate) fn all() -> Vec<Self> {
        let ours = [Kind::Onnx, Kind::Manifest, Kind::Safetensors].into_iter();
        let others = [Kind::Msgpack, Kind::Autoencoder, Kind::Zipped, Kind::Pickled];
        ours.chain(others).map(Self::new).collect()
    }

    fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &str| fs::read(golden(path)).unwrap();
        let torch = |name: &str| fs::read(golden("../../models/src/weights/torch/fixtures").join(name)).unwrap();
        let valid = match kind {
            Kind::Onnx => (onnx(), Vec::new()),
            Kind::Manifest => (manifest().to_json().unwrap().into_bytes(), Vec::new()),
            Kind::Safetensors => (safetensors(folder.path()), Vec::new()),
            Kind::Msgpack => (read("generator/ema_params.msgpack"), read("generator/metadata.json")),
            Kind::Zipped => (torch("zipped.pth"), Vec::new()),
            Kind::Pickled => (torch("pickled.pth"), Vec::new()),
            Kind::Autoencoder => (read("vae/diffusion_pytorch_model.safetensors"), read("vae/config.json")),
        };
        let reader = Self { kind, folder, valid };
        let (file, beside) = reader.valid.clone();
        assert!(reader.read(file, &beside), "{kind:?} cannot read its own file");
        reader
    }

    fn read(&self, file: Vec<u8>, beside: &[u8]) -> bool {
        let path = |name: &str| self.folder.path().join(name);
        match self.kind {
            Kind::Onnx => read_onnx(file),
            Kind::Manifest => Manifest::parse(&String::from_utf8_lossy(&file)).is_ok_and(|manifest| {
                let _ = (manifest.generator.macs(), manifest.class("2"), manifest.to_json().unwrap());
                true
            }),
            Kind::Safetensors => {
                fs::write(path("weights.safetensors"), file).unwrap();
                let read = ModelFile::read(&path("weights.safetensors"));
                read.is_ok_and(|file| file.generator().is_ok())
            }
            Kind::Msgpack => {
                fs::write(path("ema_params.msgpack"), file).unwrap();
                fs::write(path("metadata.json"), beside).unwrap();
                match weights::import(self.folder.path()) {
                    Ok(ImportedNetwork::Generator(found)) => found.elements() > 0,
                    Ok(ImportedNetwork::Mae(found)) => found.elements() > 0,
                    Err(error) => !short(&error.to_string()),
                }
            }
            Kind::Zipped | Kind::Pickled => {
                fs::write(path("weights.pth"), file).unwrap();
                match weights::read_published(&path("weights.pth"), &Device::Cpu) {
                    Ok(found) => !found.tensors.is_empty(),
                    Err(error) => !short(&error.to_string()),
                }
            }
            Kind::Autoencoder => {
                fs::write(path("diffusion_pytorch_model.safetensors"), file).unwrap();
                fs::write(path("config.json"), beside).unwrap();
                let decoder = autoencoder::Decoder::open(self.folder.path()).is_ok();
                autoencoder::open(self.folder.path(), &Device::Cpu).is_ok() && decoder
            }
        }
    }
}

impl Target for Reader {
    fn name(&self) -> String {
        format!("{:?}", self.kind).to_lowercase()
    }

    /// Changes the valid file and reads it.
    fn execute(&mut self, random: &mut Random) -> bool {
        let (mut file, mut beside) = self.valid.clone();
        match self.kind {
            Kind::Onnx => match random.below(8) {
                0 => bytes(&mut file, 0..usize::MAX, random),
                _ => protobuf(&mut file, random),
            },
            Kind::Manifest => text(&mut file, random),
            Kind::Zipped | Kind::Pickled => bytes(&mut file, 0..usize::MAX, random),
            Kind::Safetensors => header(&mut file, random),
            Kind::Msgpack if random.one_in(4) => text(&mut beside, random),
            Kind::Msgpack => msgpack(&mut file, random),
            Kind::Autoencoder if random.one_in(2) => text(&mut beside, random),
            Kind::Autoencoder => header(&mut file, random),
        }
        self.read(file, &beside)
    }
}

/// An error that a person can read.
fn short(error: &str) -> bool {
    assert!(error.len() < 20_000, "an error of {} bytes", error.len());
    true
}

/// The checker, the reader of manifests, the server's reader, and then one image from rten.
fn read_onnx(file: Vec<u8>) -> bool {
    let checked = graph::check(&file).is_ok();
    let manifest = drifting_export::manifest(&file).is_ok();
    let Ok(model) = Model::from_bytes(file) else { return false };
    let settings =
        EngineSettings { choice: EngineChoice::Rten, threads: 1.try_into().ok(), ..EngineSettings::default() };
    let Ok(mut engine) = engine::open(&model, &settings, &|_| {}) else { return false };
    let mut inputs = Inputs::default();
    inputs.push_seeded(&model.manifest.generator, 7, 0, 0, model.manifest.alpha.default);
    engine::run(engine.as_mut(), &inputs).is_ok() && checked && manifest
}

fn text(file: &mut Vec<u8>, random: &mut Random) {
    let mut text = String::from_utf8_lossy(file).into_owned();
    json(&mut text, random);
    *file = text.into_bytes();
}

/// Mostly the header of a safetensors file, whose length is then put right.
fn header(file: &mut Vec<u8>, random: &mut Random) {
    if random.one_in(5) {
        return bytes(file, 0..usize::MAX, random);
    }
    if random.one_in(5) {
        return bytes(file, 0..16, random);
    }
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header = file[8..end].to_vec();
    text(&mut header, random);
    let numbers = file.split_off(end);
    *file = [&(header.len() as u64).to_le_bytes()[..], &header, &numbers].concat();
}

/// Mostly what is around the names of types, since nearly all else are weights.
fn msgpack(file: &mut Vec<u8>, random: &mut Random) {
    let from = random.below(file.len());
    let found = file[from..].windows(7).position(|window| window == b"float32");
    match found {
        Some(at) if !random.one_in(6) => bytes(file, (from + at).saturating_sub(40)..from + at + 16, random),
        _ => bytes(file, 0..usize::MAX, random),
    }
}
