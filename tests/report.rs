//! `drifting report`: pages about runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use common::Workspace;

#[test]
fn runs_are_told_on_one_page() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let train = ["train", "tiny.toml", "--set", "output.samples_every=2", "--set", "output.metrics_every=1"];
    for (run, lr) in [("first", "1e-3"), ("second", "2e-3")] {
        let rate = format!("schedule.lr={lr}");
        workspace.succeed(&[&train[..], &["--steps", "4", "--set", &rate, "--out", run]].concat());
    }
    std::fs::write(workspace.path("first/eval.json"), r#"[{"alpha":1,"distance":3},{"alpha":2,"distance":2}]"#)
        .unwrap();
    assert_eq!(workspace.succeed(&["report", "first"]).trim(), "first/report.html");
    let page = std::fs::read_to_string(workspace.path("first/report.html")).unwrap();
    for part in
        ["distance by alpha", "step_000004", "gradient_norm", "checkpoints/step_000004/ema_0.9.safetensors", "rustc 1."]
    {
        assert!(page.contains(part), "{part}");
    }
    workspace.succeed(&["report", "first", "second", "--out", "both.html"]);
    let both = std::fs::read_to_string(workspace.path("both.html")).unwrap();
    assert!(both.contains("<title>first, second</title>") && both.contains("schedule.lr"));
    let error = workspace.fail(&["report", "nowhere"]);
    assert!(error.contains("nowhere: is no run folder"), "{error}");
    assert!(workspace.fail(&["report"]).contains("<RUNS>"));
}
