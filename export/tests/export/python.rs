//! Python's own checker and ONNX Runtime as second opinion.

use std::path::{Path, PathBuf};
use std::process::Command;

use drifting_export::{ExportSettings, model, reference};
use drifting_models::weights;

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
pub(crate) fn script(name: &str, requirements: &str) -> Command {
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

#[test]
fn pythons_checker_accepts_the_files_and_pythons_runtime_gives_the_same_images() {
    if offline() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (name, config) in settings() {
        let (generator, manifest) = (generator(config.clone()), manifest(config));
        let onnx = folder.path().join(format!("{name}.onnx"));
        weights::write_bytes(
            &onnx,
            &model(&manifest, &generator.params().tensors(), &ExportSettings::default()).unwrap(),
        )
        .unwrap();
        let expected = folder.path().join(format!("{name}.safetensors"));
        weights::write(&expected, &reference(&generator, &manifest).unwrap(), &Default::default()).unwrap();
        files.extend([onnx, expected]);
    }
    let check = script("check_onnx.py", "requirements.txt").args(&files).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{said}\n{}", String::from_utf8_lossy(&check.stderr));
    assert_eq!(said.lines().count(), settings().len(), "{said}");
}
