//! What trains: the processor, or a GPU. No test needs one; with the feature `cuda` they run on stand-ins (tools/cuda).

mod common;

use common::{Workspace, files};

#[test]
fn a_gpu_that_cannot_be_used_is_an_error_that_says_why() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    // No machine has a hundred GPUs.
    let message = workspace.fail(&["train", "tiny.toml", "--out", "run", "--set", "compute.device=\"cuda:99\""]);
    let why =
        if cfg!(feature = "cuda") { "GPU 99 cannot be opened: DriverError(CUDA_ERROR_" } else { "--features cuda" };
    assert!(message.contains("compute.device") && message.contains(why), "{message}");
}

#[test]
fn a_device_that_nobody_knows_is_an_error_that_names_those_there_are() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let message = workspace.fail(&["train", "tiny.toml", "--out", "run", "--set", "compute.device=\"gpu\""]);
    assert!(message.contains("compute.device") && message.contains("cpu, cuda or cuda:N"), "{message}");
}

#[test]
fn the_processor_trains_and_goes_on() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let train = |run: &str, steps: &str| {
        workspace.succeed(&["train", "tiny.toml", "--out", run, "--steps", steps, "--set", "compute.device=\"cpu\""]);
    };
    train("straight", "20");
    train("stopped", "10");
    train("stopped", "20");
    let checkpoint = |run: &str| files(&workspace.path(run).join("checkpoints/step_000020"));
    let straight = checkpoint("straight");
    assert!(straight.len() > 2 && straight == checkpoint("stopped"), "other bytes");
}

#[test]
fn plain_operations_train() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let plain = ["--steps", "3", "--set", "compute.operations=\"plain\"", "--set", "output.metrics_every=1"];
    workspace.succeed(&[&["train", "tiny.toml", "--out", "run"], &plain[..]].concat());
    let metrics = std::fs::read_to_string(workspace.path("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 3, "{metrics}");
}
