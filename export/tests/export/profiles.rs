//! Every profile of every setting, fixed batches, and weights in a file of their own.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use candle_core::Tensor;
use drifting_export::{
    ExportSettings, ExternalData, Network, Profile, REPORT_FILE, Report, export, model, network_reference, reference,
    verify, write_model, write_network,
};
use drifting_models::{Generator, weights};
use drifting_spec::{GeneratorConfig, NetworkManifest, Pixels, Provenance};

use crate::networks::{decoders, encoders, image_models};
use crate::python;
use crate::settings::{generator, manifest, settings, tiny};

const PROFILES: [Profile; 5] = [Profile::Portable, Profile::Ort, Profile::Fp16, Profile::Bf16, Profile::Int8];

fn with(profile: Profile) -> ExportSettings {
    ExportSettings { profile, ..ExportSettings::default() }
}

fn fixed(profile: Profile, batch: usize) -> ExportSettings {
    ExportSettings { batch: NonZeroUsize::new(batch), ..with(profile) }
}

fn external(profile: Profile) -> ExportSettings {
    ExportSettings { external_data: ExternalData::Always, ..with(profile) }
}

fn verified(generator: &Generator, config: GeneratorConfig, settings: &ExportSettings) -> Report {
    verify(&model(&manifest(config), &generator.params().tensors(), settings).unwrap(), generator, &mut []).unwrap()
}

#[test]
fn pythons_checker_accepts_every_profile_and_pythons_runtime_gives_the_same_images() {
    if python::offline() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut add = |name: &str,
                   expected: BTreeMap<String, Tensor>,
                   write: &dyn Fn(&Path, &ExportSettings),
                   all: &[ExportSettings]| {
        let reference = folder.path().join(format!("{name}.safetensors"));
        weights::write(&reference, &expected, &Default::default()).unwrap();
        for (i, settings) in all.iter().enumerate() {
            let onnx = folder.path().join(format!("{name}, {} {i}.onnx", settings.profile));
            write(&onnx, settings);
            files.extend([onnx, reference.clone()]);
        }
    };
    let more = [("fixed batch", PROFILES.map(|profile| fixed(profile, 3))), ("external data", PROFILES.map(external))];
    let settings = settings().into_iter().map(|(name, config)| (name, config, PROFILES.map(with)));
    for (name, config, all) in settings.chain(more.map(|(name, all)| (name, tiny(), all))) {
        let (generator, manifest) = (generator(config.clone()), manifest(config));
        let tensors = generator.params().tensors();
        let write = |path: &Path, settings: &_| drop(write_model(path, &manifest, &tensors, settings).unwrap());
        add(name, reference(&generator, &manifest).unwrap(), &write, &all);
    }
    image_models(&mut |name, network, manifest| {
        let tensors = network.tensors();
        let write = |path: &Path, settings: &_| drop(write_model(path, &manifest, &tensors, settings).unwrap());
        add(&name, reference(network, &manifest).unwrap(), &write, &PROFILES.map(with));
    });
    let (decoders, encoders) = (decoders(), encoders());
    let decoders = decoders
        .iter()
        .map(|(name, decoder, latent)| (*name, Network::Decoder { decoder, latent: *latent, pixels: Pixels::Float }));
    for (name, network) in decoders.chain(encoders.iter().map(|(name, mae)| (*name, Network::Encoder(mae)))) {
        let manifest = NetworkManifest::new("tiny".into(), network.config(), Provenance::default());
        let tensors = network.tensors();
        let write = |path: &Path, settings: &_| drop(write_network(path, &manifest, &tensors, settings).unwrap());
        add(name, network_reference(network).unwrap(), &write, &PROFILES.map(with));
    }
    let said = python::run("check_onnx.py", &files);
    assert_eq!(said.lines().count(), files.len() / 2, "{said}");
}

#[test]
fn every_profile_holds_the_weights_as_it_says() {
    for (name, config) in settings() {
        let generator = generator(config.clone());
        for profile in PROFILES {
            let report = verified(&generator, config.clone(), &with(profile));
            assert!(report.passed(), "{name}, {profile}: {:?}", report.failures);
            assert_eq!((report.profile, report.parameters), (profile, generator.params().len()));
            assert_eq!(report.notes.is_empty(), profile == Profile::Portable, "{:?}", report.notes);
        }
    }
}

#[test]
fn a_changed_weight_is_found_in_every_profile() {
    let (generator, manifest) = (generator(tiny()), manifest(tiny()));
    let mut tensors = generator.params().tensors();
    tensors.insert("blocks.1.mlp.gate.weight".into(), (&tensors["blocks.1.mlp.gate.weight"] * 1.02).unwrap());
    for profile in PROFILES {
        let report = verify(&model(&manifest, &tensors, &with(profile)).unwrap(), &generator, &mut []).unwrap();
        let failed = report.failures.join("\n");
        assert!(failed.contains("weights: blocks.1.mlp.gate.weight has "), "{profile}: {failed}");
    }
}

#[test]
fn low_profiles_are_smaller() {
    let (generator, manifest) = (generator(tiny()), manifest(tiny()));
    let size = |profile| model(&manifest, &generator.params().tensors(), &with(profile)).unwrap().len();
    let portable = size(Profile::Portable);
    assert_eq!(size(Profile::Fp16), size(Profile::Bf16));
    assert!(size(Profile::Fp16) < portable * 9 / 10 && size(Profile::Int8) < size(Profile::Fp16));
}

#[test]
fn a_fixed_batch_gives_the_same_images() {
    for batch in [1, 2, 7] {
        let report = verified(&generator(tiny()), tiny(), &fixed(Profile::Portable, batch));
        assert!(report.passed(), "{:?}", report.failures);
        assert_eq!(report.batch, Some(batch));
        let [compared] = report.runners[0].batches[..] else { panic!("{:?}", report.runners) };
        assert!(compared.batch == batch && compared.max_abs_diff.unwrap() < 2e-5, "{compared:?}");
    }
}

fn exported(path: &Path, settings: &ExportSettings) -> Report {
    export(path, generator(tiny()), &manifest(tiny()), settings, Vec::new()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).filter(|name| name.contains("onnx")).collect();
    names.sort();
    names
}

#[test]
fn weights_lie_at_whole_pages_of_a_second_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.onnx");
    let report = exported(&path, &external(Profile::Portable));
    assert_eq!(names(folder.path()), ["tiny.onnx", "tiny.onnx.data"]);
    // candle-onnx had all the weights.
    assert_eq!(report.runners.len(), 1);
    let data = fs::read(folder.path().join("tiny.onnx.data")).unwrap();
    let table = generator(tiny()).params().tensors()["class_embed.weight"].flatten_all().unwrap();
    let numbers: Vec<u8> = table.to_vec1::<f32>().unwrap().iter().flat_map(|value| value.to_le_bytes()).collect();
    let place = data.windows(numbers.len()).position(|window| window == numbers).unwrap();
    assert_eq!(place % 4096, 0);
    assert!(fs::read(&path).unwrap().len() < data.len());

    // The hash is that of both files.
    let both = [fs::read(&path).unwrap(), data].concat();
    let file = folder.path().join("both");
    fs::write(&file, both).unwrap();
    let sum = std::process::Command::new("sha256sum").arg(&file).output().unwrap();
    assert!(String::from_utf8(sum.stdout).unwrap().starts_with(&report.model_sha256));

    // One file takes the place of two, and two that of one.
    let one = exported(&path, &with(Profile::Portable));
    assert_eq!(names(folder.path()), ["tiny.onnx"]);
    assert_ne!(one.model_sha256, report.model_sha256);
    assert_eq!(exported(&path, &external(Profile::Portable)), report);
    assert_eq!(names(folder.path()), ["tiny.onnx", "tiny.onnx.data"]);
    assert!(folder.path().join(REPORT_FILE).exists());
}

#[test]
fn the_file_is_the_same_whether_it_is_made_in_memory_or_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.onnx");
    let (generator, manifest) = (generator(tiny()), manifest(tiny()));
    for profile in PROFILES {
        let files = write_model(&path, &manifest, &generator.params().tensors(), &with(profile)).unwrap();
        assert_eq!(files, std::slice::from_ref(&path));
        let bytes = model(&manifest, &generator.params().tensors(), &with(profile)).unwrap();
        assert!(fs::read(&path).unwrap() == bytes, "{profile}");
    }
}
