//! The oldest and the newest onnxruntime that pip offers for Python 3.11.

use drifting_export::{ExportSettings, model, reference};
use drifting_models::weights;

use crate::python::{command, offline};
use crate::settings::{file_name, generator, manifest, settings};

/// `export/tests/python/check_versions.py` without versions named runs all those in between.
const VERSIONS: &str = "1.15.0,1.32.0";

#[test]
fn every_setting_runs_in_the_oldest_and_the_newest_onnxruntime() {
    if offline() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, config) in settings() {
        let (generator, manifest, name) = (generator(config.clone()), manifest(config), file_name(name));
        let bytes = model(&manifest, &generator.params().tensors(), &ExportSettings::default()).unwrap();
        weights::write_bytes(&folder.path().join(format!("{name}.onnx")), &bytes).unwrap();
        let expected = folder.path().join(format!("{name}.reference.safetensors"));
        weights::write(&expected, &reference(&generator, &manifest).unwrap(), &Default::default()).unwrap();
    }
    let mut check = command("check_versions.py", "requirements.txt");
    let check = check.arg(folder.path()).args(["--versions", VERSIONS]).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{said}\n{}", String::from_utf8_lossy(&check.stderr));
    // Other Pythons than 3.11 have no wheel of the oldest one; the script fails if none of them runs.
    let (all, versions) = (settings().len(), if said.starts_with("Python 3.11.") { 2 } else { 1 });
    assert!(said.matches(&format!("| {all} of {all}, ")).count() >= versions, "{said}");
}
