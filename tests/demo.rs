//! The demo, shortened: what it learns in a few steps must already be recognised and be more than one picture a class.

mod common;

use common::Workspace;

#[test]
fn a_short_demo_draws_clothes() {
    let workspace = Workspace::new();
    let told = workspace.succeed(&["demo", "--no-serve", "--steps", "250", "--minutes", "60", "--out", "demo"]);
    assert!(told.contains("4/4"), "{told}");
    for file in ["model.onnx", "verify.json", "samples/step_000250.png"] {
        assert!(workspace.path("demo").join(file).exists(), "{file}");
    }
    let file = std::fs::read(workspace.path("demo/quality.json")).unwrap();
    let quality: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let number = |key: &str| quality[key].as_f64().unwrap();
    // Below the full demo's bars (0.85, 0.75, 0.6), far above an untrained generator's (0.1, 0, 0).
    assert!(number("judge_accuracy") > 0.85, "{told}");
    assert!(number("accuracy") > 0.6 && number("diversity") > 0.4 && number("min_diversity") > 0.25, "{told}");
    // The same command again finds everything done, and tells the same.
    let again = workspace.succeed(&["demo", "--no-serve", "--steps", "250", "--out", "demo"]);
    assert_eq!(std::fs::read(workspace.path("demo/quality.json")).unwrap(), file, "{again}");
}
