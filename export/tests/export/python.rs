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

/// Whether the tests that need packages of Python are left out.
pub(crate) fn offline() -> bool {
    let offline = std::env::var("DRIFTING_OFFLINE").is_ok_and(|value| value == "1");
    if offline {
        println!("skipped: DRIFTING_OFFLINE=1");
    }
    offline
}

/// Starts a script of `export/tests/python` in an environment with the packages of `requirements`.
pub(crate) fn command(name: &str, requirements: &str) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let folder = match requirements.strip_suffix(".txt") {
        None | Some("requirements") => target.join("python"),
        Some(other) => target.join(format!("python-{other}")),
    };
    let made = Command::new("tools/python-venv")
        .arg(format!("{PYTHON}/{requirements}"))
        .arg(folder)
        .current_dir(workspace())
        .output()
        .expect("tools/python-venv cannot be started");
    let problem = String::from_utf8_lossy(&made.stderr);
    assert!(
        made.status.success(),
        "python3 and pip are needed for this test, and an index to install the packages of {requirements} from; \
         DRIFTING_OFFLINE=1 leaves it out.\n{problem}"
    );
    let mut command = Command::new(String::from_utf8(made.stdout).unwrap().trim());
    command.arg(format!("{PYTHON}/{name}")).current_dir(workspace());
    command
}

/// What a script says about these files; an error with it all if it finds a fault.
pub(crate) fn try_run<P: AsRef<Path>>(script: &str, files: &[P]) -> Result<String, String> {
    let check = command(script, "requirements.txt").args(files.iter().map(AsRef::as_ref)).output().unwrap();
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
