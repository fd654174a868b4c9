//! The measures against the programs that others take them with: SciPy and scikit-learn.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "the helpers of tests are tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use drifting_spec::Stream;
use drifting_train::eval::{Gaussian, InceptionScore, Manifold, Statistics, frechet_distance, kernel_distance};
use serde_json::Value;

const PYTHON: &str = "train/tests/python";
const SEED: u64 = 11;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the script says of the files in `folder`.
fn python(folder: &Path) -> Value {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let made = Command::new("tools/python-venv")
        .arg(format!("{PYTHON}/requirements.txt"))
        .arg(target.join("python-eval"))
        .current_dir(workspace())
        .output()
        .expect("tools/python-venv cannot be started");
    let problem = String::from_utf8_lossy(&made.stderr);
    assert!(
        made.status.success(),
        "python3 and pip are needed for this test, and an index to install the packages of {PYTHON}/requirements.txt from; \
         DRIFTING_OFFLINE=1 leaves it out.\n{problem}"
    );
    let interpreter = String::from_utf8(made.stdout).unwrap();
    let mut command = Command::new(interpreter.trim());
    let found = command.arg(format!("{PYTHON}/figures.py")).arg(folder).current_dir(workspace()).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    serde_json::from_slice(&found.stdout).unwrap()
}

/// Positive features of which some always vary together, as those of a network do.
fn features(count: usize, size: usize, index: u64, shift: f64) -> Tensor {
    let mix = Tensor::from_vec(Stream::new(1, "mix", 0).normals(size * size), (size, size), &Device::Cpu).unwrap();
    let values = Stream::new(1, "features", index).normals(count * size);
    let values = Tensor::from_vec(values, (count, size), &Device::Cpu).unwrap();
    ((values.matmul(&mix).unwrap() / 4.0).unwrap() + shift).unwrap().relu().unwrap()
}

fn near(name: &str, found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= tolerance * expected.abs(), "{name}: {found}, Python has {expected}");
}

#[test]
fn python_measures_the_same() {
    if std::env::var("DRIFTING_OFFLINE").is_ok_and(|value| value == "1") {
        println!("skipped: DRIFTING_OFFLINE=1");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // As many of each: KID's subsets are then the sets.
    let (real, generated) = (features(800, 48, 0, 0.5), features(800, 48, 1, 0.8));
    let logits = Tensor::from_vec(Stream::new(1, "logits", 0).normals(803 * 7), (803, 7), &Device::Cpu).unwrap();
    let logits = (logits * 3.0).unwrap();
    let order = Stream::new(SEED, "inception.score", 0).choose(803, 803);
    let order = Tensor::new(order.into_iter().map(|place| place as i64).collect::<Vec<_>>(), &Device::Cpu).unwrap();
    for (name, tensor) in [("real", &real), ("generated", &generated), ("logits", &logits), ("order", &order)] {
        tensor.write_npy(path(&format!("{name}.npy"))).unwrap();
    }
    let [left, right] = [&generated, &real].map(|features| Gaussian::of(features).unwrap());
    Statistics { gaussian: right.clone(), facts: None }.save(&path("ours.npz")).unwrap();
    let theirs = python(folder.path());

    let distance = frechet_distance(&left, &right).unwrap();
    near("Fréchet distance", distance, &theirs["fd"], 1e-6);
    near("Fréchet distance to our .npz", distance, &theirs["fd_of_our_file"], 1e-6);
    for (name, tolerance) in [("theirs.npz", 1e-6), ("narrow.npz", 1e-4)] {
        let statistics = Statistics::open(&path(name)).unwrap();
        near(name, frechet_distance(&left, &statistics.gaussian).unwrap(), &theirs["fd"], tolerance);
    }
    let kernel = kernel_distance(&generated, &real, SEED).unwrap();
    near("KID", kernel.value, &theirs["kid"], 1e-8);
    assert!(kernel.deviation < 1e-12, "{kernel:?}");

    let mut score = InceptionScore::new(803, 7, SEED).unwrap();
    score.add(&logits.to_dtype(DType::F32).unwrap()).unwrap();
    let score = score.finish().unwrap();
    near("IS", score.value, &theirs["is"][0], 1e-9);
    near("deviation of IS", score.deviation, &theirs["is"][1], 1e-9);

    let [real, generated] = [&real, &generated].map(|features| Manifold::of(features).unwrap());
    let found = real.overlap(&generated).unwrap();
    let shares = [
        ("precision", found.precision),
        ("recall", found.recall),
        ("density", found.density),
        ("coverage", found.coverage),
    ];
    for (name, found) in shares {
        assert!((0.05..0.98).contains(&found), "{name} tells nothing: {found}");
        near(name, found, &theirs[name], 1e-15);
    }
}
