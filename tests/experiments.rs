//! An encoder and the generator that drifts in its features: what a run keeps, refuses and starts from.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod common;

use common::Workspace;

fn encoder() -> Workspace {
    let workspace = Workspace::new();
    workspace.encoder_config();
    workspace
}

#[test]
fn an_encoder_leaves_weights_pictures_measurements_and_a_page() {
    let workspace = encoder();
    workspace.succeed(&["train", "encoder.toml", "--dry-run"]);
    assert!(!workspace.path("runs").exists(), "a dry run writes nothing");
    workspace.succeed(&["train", "encoder.toml", "--out", "run"]);
    for file in ["mae_ema_0.9.safetensors", "samples/step_000006.png", "curves.svg", "run.json"] {
        assert!(workspace.path("run").join(file).exists(), "{file}");
    }
    let read = |file: &str| std::fs::read_to_string(workspace.path("run").join(file)).unwrap();
    assert_eq!((read("metrics.jsonl").lines().count(), read("evaluation.jsonl").lines().count()), (6, 2));
    let page = read("RUN.md");
    for part in ["6 of 6 steps; finished", "ema_0.9.unmasked.accuracy", "`mae.base_channels` | 8", "step_000006.png"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let run: serde_json::Value = serde_json::from_str(&read("run.json")).unwrap();
    let build = &run["starts"][0]["build"];
    assert!(build["rustc"].as_str().unwrap().starts_with("rustc 1.") && build["candle"] != "unknown", "{build}");
    let exported = workspace.fail(&["export", "run", "--out", "model.onnx"]);
    assert!(exported.contains("run of a mae"), "{exported}");
}

#[test]
fn another_encoder_is_refused_unless_told() {
    let workspace = encoder();
    workspace.tiny_config();
    workspace.succeed(&["train", "encoder.toml", "--out", "encoder", "--steps", "3"]);
    let train = |more: &[&str]| {
        let features = r#"features={keys=["global","layer4_mean"],encoder={mae="encoder"}}"#;
        let args = ["train", "tiny.toml", "--out", "run", "--set", features, "--set", "batch.classes=2"];
        workspace.run(&[&args, more].concat())
    };
    assert!(train(&["--steps", "2"]).status.success());
    workspace.succeed(&["train", "encoder.toml", "--out", "encoder"]);
    let refused = common::text(&train(&["--steps", "3"]).stderr);
    assert!(refused.contains("weights") && refused.contains("--allow-changed weights"), "{refused}");
    assert!(train(&["--steps", "3", "--allow-changed", "weights"]).status.success());
    assert!(train(&["--steps", "4"]).status.success());
}

#[test]
fn a_file_that_trains_nothing_is_explained() {
    let workspace = encoder();
    std::fs::write(workspace.path("none.toml"), "name = \"x\"\nsteps = 3\n").unwrap();
    let none = workspace.fail(&["train", "none.toml"]);
    assert!(none.contains("one of the sections [generator], [mae]"), "{none}");
    let absent = workspace.fail(&["train", "absent.toml"]);
    assert!(
        absent.starts_with("error: absent.toml: No such file") && absent.matches("No such").count() == 1,
        "{absent}"
    );
    let wrong = workspace.fail(&["train", "encoder.toml", "--set", "masking.share=0.5"]);
    assert!(wrong.contains("share") && wrong.contains("ratio"), "{wrong}");
}
