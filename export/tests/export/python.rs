//! Python's own checker and ONNX Runtime as second opinion.

use std::path::{Path, PathBuf};
use std::process::Command;

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
