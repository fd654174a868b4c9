//! Runs whose products are in bfloat16.

mod common;

use std::collections::BTreeMap;

use common::{Workspace, files};

const BF16: [&str; 2] = ["--set", "compute.products=\"bf16\""];

/// The last checkpoint of a run of 20 steps.
fn checkpoint(workspace: &Workspace, run: &str) -> BTreeMap<String, Vec<u8>> {
    files(&workspace.path(run).join("checkpoints/step_000020"))
}

#[test]
fn a_run_in_bfloat16_goes_on_bit_for_bit() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let train = |run: &str, more: &[&str]| {
        workspace.succeed(&[&["train", "tiny.toml", "--out", run], more].concat());
    };
    train("single", &["--steps", "20"]);
    train("straight", &[&BF16[..], &["--steps", "20"]].concat());
    train("stopped", &[&BF16[..], &["--steps", "10"]].concat());
    train("stopped", &[&BF16[..], &["--steps", "20"]].concat());
    let straight = checkpoint(&workspace, "straight");
    assert!(straight.len() > 2 && straight == checkpoint(&workspace, "stopped"), "other bytes");
    let single = checkpoint(&workspace, "single");
    let weights = |name: &&String| name.ends_with(".safetensors");
    let differing = single.keys().filter(weights).filter(|name| single[*name] != straight[*name]).count();
    assert!(differing > 0, "{:?}", single.keys());
}

#[test]
fn another_precision_is_another_run() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    workspace.succeed(&["train", "tiny.toml", "--out", "run", "--steps", "2"]);
    let message = workspace.fail(&["train", "tiny.toml", "--out", "run", "--steps", "4", BF16[0], BF16[1]]);
    assert!(message.contains("compute.products"), "{message}");
    let message = workspace.fail(&["train", "tiny.toml", "--out", "other", "--set", "compute.products=\"half\""]);
    assert!(message.contains("compute.products") && message.contains("bf16"), "{message}");
}
