//! What trains: the processor, or a GPU. No test needs one; with the feature `cuda` they run on stand-ins (tools/cuda).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

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

/// What a GPU computes, computed by the processor: of an encoder, and of a generator in its features.
#[test]
fn plain_operations_take_the_same_steps() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    workspace.encoder_config();
    let train = |config: &str, run: &str, more: &[&str]| {
        let steps = ["--steps", "3", "--set", "output.metrics_every=1"];
        workspace.succeed(&[&["train", config, "--out", run], &steps[..], more].concat());
        let metrics = std::fs::read_to_string(workspace.path(run).join("metrics.jsonl")).unwrap();
        let norm = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["gradient_norm"].as_f64();
        metrics.lines().map(|line| norm(line).unwrap()).collect::<Vec<_>>()
    };
    let plain = ["--set", "compute.operations=\"plain\""];
    let again = [&plain[..], &["--set", "compute.recompute=true"]].concat();
    let close = |found: &[f64], expected: &[f64]| {
        assert_eq!((found.len(), expected.len()), (3, 3));
        let pairs = found.iter().zip(expected);
        assert!(pairs.into_iter().all(|(a, b)| (a / b - 1.0).abs() < 1e-3), "{found:?} {expected:?}");
    };
    // More channels than groups: what a norm of single numbers hands back is rounding.
    let groups = ["--set", "mae.norm_groups=2"];
    let fused = train("encoder.toml", "encoder", &groups);
    close(&train("encoder.toml", "plain-encoder", &[plain, groups].concat()), &fused);
    let features = r#"features={keys=["global","layer2","layer3_mean_2"],encoder={mae="encoder"}}"#;
    let features = ["--set", features, "--set", "batch.classes=2", "--set", "batch.groups_at_once=1"];
    let fused = train("tiny.toml", "run", &features);
    for (run, more) in [("plain", &plain[..]), ("again", &again)] {
        close(&train("tiny.toml", run, &[&features, more].concat()), &fused);
    }
}
