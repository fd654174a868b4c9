//! Python's own checker and ONNX Runtime as second opinion.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::Tensor;
use drifting_export::{ExportSettings, Network, model, network_reference, reference};
use drifting_models::weights;
use drifting_spec::Pixels;

use crate::networks::{decoders, encoders, image_models, network_bytes};
use crate::settings::{generator, manifest, settings};

const PYTHON: &str = "export/tests/python";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The interpreter of an environment with the packages that the check needs.
fn interpreter() -> String {
    let made = Command::new("tools/python-venv")
        .arg(format!("{PYTHON}/requirements.txt"))
        .current_dir(workspace())
        .output()
        .expect("tools/python-venv cannot be started");
    let problem = String::from_utf8_lossy(&made.stderr);
    assert!(
        made.status.success(),
        "python3 and pip are needed for this test, and an index to install onnx and onnxruntime from; \
         DRIFTING_OFFLINE=1 leaves it out.\n{problem}"
    );
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Whether the checks in Python are left out; says so.
pub(crate) fn offline() -> bool {
    let offline = std::env::var("DRIFTING_OFFLINE").is_ok_and(|value| value == "1");
    if offline {
        println!("skipped: DRIFTING_OFFLINE=1");
    }
    offline
}

/// What a script says about these files; an error with it all if it finds a fault.
pub(crate) fn try_run<P: AsRef<Path>>(script: &str, files: &[P]) -> Result<String, String> {
    let check = Command::new(interpreter())
        .arg(format!("{PYTHON}/{script}"))
        .args(files.iter().map(AsRef::as_ref))
        .current_dir(workspace())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    if check.status.success() { Ok(said) } else { Err(format!("{said}\n{}", String::from_utf8_lossy(&check.stderr))) }
}

/// As [`try_run`]; no fault may be found.
pub(crate) fn run<P: AsRef<Path>>(script: &str, files: &[P]) -> String {
    try_run(script, files).unwrap_or_else(|said| panic!("{said}"))
}

#[test]
fn pythons_checker_accepts_the_files_and_pythons_runtime_gives_the_same_images() {
    if offline() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut add = |name: String, bytes: &[u8], expected: BTreeMap<String, Tensor>| {
        let [onnx, reference] = ["onnx", "safetensors"].map(|kind| folder.path().join(format!("{name}.{kind}")));
        weights::write_bytes(&onnx, bytes).unwrap();
        weights::write(&reference, &expected, &Default::default()).unwrap();
        files.extend([onnx, reference]);
    };
    let export = ExportSettings::default();
    for (name, config) in settings() {
        let (generator, manifest) = (generator(config.clone()), manifest(config));
        let bytes = model(&manifest, &generator.params().tensors(), &export).unwrap();
        add(name.to_owned(), &bytes, reference(&generator, &manifest).unwrap());
    }
    image_models(&mut |name, network, manifest| {
        let bytes = model(&manifest, &network.tensors(), &export).unwrap();
        add(name, &bytes, reference(network, &manifest).unwrap());
    });
    for (name, decoder, latent) in decoders() {
        let network = Network::Decoder { decoder: &decoder, latent, pixels: Pixels::Float };
        add(name.to_owned(), &network_bytes(network), network_reference(network).unwrap());
    }
    for (name, mae) in encoders() {
        let network = Network::Encoder(&mae);
        add(name.to_owned(), &network_bytes(network), network_reference(network).unwrap());
    }
    let models = files.len() / 2;
    let said = run("check_onnx.py", &files);
    assert_eq!(said.lines().count(), models, "{said}");
}
