//! The published ResNet-56 on CIFAR-10, which is fetched by the tool that users have for it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

#[path = "../examples/damage/table.rs"]
mod table;

use std::path::Path;
use std::process::Command;

use drifting_train::eval::Published;

use table::Cifar10;

#[test]
fn resnet56_ranks_known_damage() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cifar10");
    let fetched = Command::new(root.join("tools/fetch-data")).arg("cifar10").arg(&folder).output();
    let fetched = fetched.unwrap_or_else(|error| panic!("tools/fetch-data cannot be started: {error}"));
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));

    let network = Published::resnet56(&root.join("tests/weights/cifar10-resnet56-4bfd9763.safetensors")).unwrap();
    let row = Cifar10::open(folder.to_str().unwrap()).unwrap().row(&network).unwrap();
    println!("{row:?}");
    let after = |damage: &str| row.distances.iter().find(|(name, _)| *name == damage).unwrap().1;
    assert_eq!(row.accuracy, Some(0.9339));
    assert!((after("none") - 0.19).abs() < 0.03, "{row:?}");
    let worse = ["none", "one class dropped", "JPEG q75", "noise 10/255", "5 classes only", "2x blur", "pure noise"];
    for pair in worse.windows(2) {
        assert!(after(pair[0]) < after(pair[1]), "{pair:?}: {row:?}");
    }
}
