//! Environments of Python with pinned packages.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of an environment with the packages of `requirements`; none where `DRIFTING_OFFLINE=1` leaves these tests out.
pub(crate) fn python(requirements: &str, name: &str) -> Option<PathBuf> {
    if std::env::var("DRIFTING_OFFLINE").is_ok_and(|value| value == "1") {
        println!("skipped: DRIFTING_OFFLINE=1");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let made = Command::new("tools/python-venv").arg(requirements).arg(target.join(name)).current_dir(root).output();
    let made = made.unwrap_or_else(|error| panic!("tools/python-venv cannot be started: {error}"));
    assert!(
        made.status.success(),
        "python3 and pip are needed for this test, and an index to install the packages of {requirements} from; \
         DRIFTING_OFFLINE=1 leaves it out.\n{}",
        String::from_utf8_lossy(&made.stderr)
    );
    Some(PathBuf::from(String::from_utf8(made.stdout).unwrap().trim()))
}
