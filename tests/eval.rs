//! `drifting eval` on a run, an export, a folder of images and statistics.

#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod common;

use std::path::Path;

use common::Workspace;
use serde_json::Value;

const CONFIG: &str = r#"
name = "tiny"
steps = 4
data = { path = "images" }
batch = { classes = 2, generated = 4, positives = 4, unconditional = 4 }
features = { keys = ["global"] }
schedule = { lr = 2e-3, warmup_steps = 2 }
ema = { decays = [0.9] }
output = { checkpoint_every = 0, samples_every = 0 }

[generator]
image = { channels = 1, height = 8, width = 8 }
patch = 4
hidden = 32
depth = 1
heads = 2
classes = 2
style_tokens = 2
style_codes = 4
registers = 1
"#;

/// Writes grey pictures of two classes, brighter above and brighter below.
fn images(folder: &Path, count: u32, side: u32, contrast: u32) {
    for (class, name) in ["above", "below"].iter().enumerate() {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        for number in 0..count {
            let picture = image::GrayImage::from_fn(side, side, |x, y| {
                // No two pixels and no two images alike.
                let noise = (x * 31 + y * 17 + number * 71 + number * x * 13 + number * y * 7) % 61;
                let bright = if (y < side / 2) == (class == 0) { contrast } else { 0 };
                image::Luma([(60 + noise + bright) as u8])
            });
            picture.save(folder.join(name).join(format!("{number:03}.png"))).unwrap();
        }
    }
}

/// A workspace with images and a run on them.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    images(&workspace.path("images"), 60, 8, 120);
    std::fs::write(workspace.path("tiny.toml"), CONFIG).unwrap();
    workspace.succeed(&["train", "tiny.toml", "--out", "run"]);
    workspace
}

fn json(workspace: &Workspace, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(workspace.path(name)).unwrap()).unwrap()
}

fn figure<'a>(evaluation: &'a Value, name: &str) -> &'a Value {
    let figures = evaluation["figures"].as_array().unwrap();
    figures.iter().find(|figure| figure["name"] == name).unwrap_or(&Value::Null)
}

fn value(evaluation: &Value, name: &str) -> f64 {
    figure(evaluation, name)["value"].as_f64().unwrap()
}

#[test]
fn a_run_is_judged_in_short_and_at_length() {
    let workspace = workspace();
    let said = workspace.succeed(&["eval", "run", "-n", "10", "--json", "short.json"]);
    assert!(said.contains("recognised") && said.contains("least") && said.contains("step 4, alpha 1"), "{said}");
    let short = &json(&workspace, "short.json")[0];
    assert_eq!((short["step"].as_u64(), short["alpha"].as_f64()), (Some(4), Some(1.0)));
    assert_eq!(short["quality"]["frechet"]["distance"], figure(short, "fd-judge")["value"]);
    assert_eq!(short["contract"]["rounding"], "unrounded");

    let all = ["eval", "run", "-n", "10", "--alpha", "1,2", "--network", "judge", "--json", "all.json"];
    let said =
        workspace.succeed(&[&all[..], &["--curve", "all.png", "--save-statistics", "real.safetensors"]].concat());
    assert!(said.contains("fd-judge") && said.lines().any(|line| line.trim_start().starts_with("alpha")), "{said}");
    let all = json(&workspace, "all.json");
    assert_eq!(all.as_array().unwrap().len(), 2);
    let first = &all[0];
    for name in
        ["fd-judge", "kid-judge", "precision", "recall", "density", "coverage", "accuracy", "diversity", "copies"]
    {
        let figure = figure(first, name);
        assert!(
            figure["value"].is_number() && figure["network_sha256"] == short["contract"]["network_sha256"],
            "{name}"
        );
        assert!(figure["floor"].is_number() || name == "diversity", "{name}: {figure}");
        assert_eq!(first["values"][name], figure["value"]);
    }
    // The same images, but for their rounding; the short call takes all 24 test images, this one as many as are generated.
    let apart = (value(first, "fd-judge") - value(short, "fd-judge")).abs();
    assert!(apart < 0.05 * value(short, "fd-judge"), "{apart}");
    let counts = ["generated", "real", "floor_images"].map(|key| figure(first, "fd-judge")[key].as_u64());
    assert_eq!(counts, [Some(20), Some(96), Some(20)]);
    let provenance = &first["provenance"];
    assert_eq!((provenance["source_kind"].as_str(), provenance["step"].as_u64()), (Some("run"), Some(4)));
    for key in ["model_sha256", "images_sha256", "real_sha256"] {
        assert_eq!(provenance[key].as_str().map(str::len), Some(64), "{key}: {provenance}");
    }
    let curve = image::open(workspace.path("all.png")).unwrap();
    assert!(curve.width() > 700 && curve.height() > 700);

    let saved = ["eval", "run", "-n", "10", "--statistics", "real.safetensors", "--json", "saved.json"];
    workspace.succeed(&saved);
    let saved = &json(&workspace, "saved.json")[0];
    assert_eq!(value(saved, "fd-judge"), value(first, "fd-judge"));
    assert_eq!(figure(saved, "fd-judge")["floor"], figure(first, "fd-judge")["floor"]);
    assert_eq!((saved["comparable"].as_bool(), &saved["notes"]), (Some(true), &serde_json::json!([])));
}

#[test]
fn an_export_and_a_folder_are_judged_like_the_run() {
    let workspace = workspace();
    let judged = ["--judge", "run/judge.safetensors", "--measures", "fd,accuracy", "-n", "20"];
    let eval = |more: &[&str]| {
        workspace.succeed(&[&["eval"], more, &judged[..], &["--json", "found.json"]].concat());
        json(&workspace, "found.json")[0].clone()
    };
    let run = eval(&["run"]);
    workspace.succeed(&["export", "run", "--out", "model.onnx"]);
    let export = eval(&["model.onnx", "--data", "images"]);
    assert_eq!(export["provenance"]["source_kind"], "onnx");
    let apart = (value(&run, "fd-judge") - value(&export, "fd-judge")).abs();
    assert!(apart < 1e-2 * value(&run, "fd-judge"), "{run} {export}");

    images(&workspace.path("drawn"), 20, 8, 100);
    let drawn = eval(&["drawn", "--data", "images"]);
    assert_eq!(drawn["contract"]["rounding"], "stored");
    assert!(value(&drawn, "accuracy") > 0.9, "{drawn}");
    assert!(value(&drawn, "fd-judge") < value(&run, "fd-judge"), "{drawn}");
    let error = workspace.fail(&["eval", "drawn"]);
    assert!(error.contains("give --data or --statistics"), "{error}");
    let error = workspace.fail(&["eval", "drawn", "--data", "images", "--alpha", "2"]);
    assert!(error.contains("--alpha goes with a generator"), "{error}");
    let error = workspace.fail(&["eval", "run", "--curve", "one.png"]);
    assert!(error.contains("--curve needs at least two values of --alpha"), "{error}");
    images(&workspace.path("drawn"), 1, 9, 100);
    let error = workspace.fail(&["eval", "drawn", "--data", "images", "--measures", "fd"]);
    assert!(error.contains("all images must have one size"), "{error}");
}

#[test]
fn statistics_of_another_contract_are_refused_unless_they_are_asked_for() {
    let workspace = workspace();
    workspace.succeed(&["eval", "run", "-n", "5"]);
    images(&workspace.path("others"), 40, 8, 90);
    let other = ["eval", "run", "--data", "others", "--judge", "other.safetensors", "--measures", "fd", "-n", "5"];
    workspace.succeed(&[&other[..], &["--save-statistics", "other-real.safetensors"]].concat());
    let ours = ["eval", "run", "-n", "5", "--measures", "fd", "--json", "found.json", "--statistics"];
    let error = workspace.fail(&[&ours[..], &["other-real.safetensors"]].concat());
    assert!(error.contains("network_sha256") && error.contains("--mismatched-statistics"), "{error}");
    let said = workspace.succeed(&[&ours[..], &["other-real.safetensors", "--mismatched-statistics"]].concat());
    assert!(said.contains("NOT COMPARABLE"), "{said}");
    assert_eq!(json(&workspace, "found.json")[0]["comparable"], false);

    workspace.succeed(&[&other[..], &["--save-statistics", "other-real.npz"]].concat());
    let said = workspace.succeed(&[&ours[..], &["other-real.npz"]].concat());
    assert!(said.contains("only their 128 features were checked"), "{said}");
    let found = &json(&workspace, "found.json")[0];
    assert!(found.as_object().unwrap().contains_key("comparable") && found["comparable"].is_null());
    let error = workspace.fail(&[&ours[..], &["absent.npz"]].concat());
    assert!(error.contains("absent.npz"), "{error}");
    let error = workspace.fail(&["eval", "run", "--measures", "kid", "--statistics", "other-real.npz"]);
    assert!(error.contains("kid compares single images"), "{error}");
}

#[test]
fn published_networks_need_their_weights() {
    let workspace = Workspace::new();
    images(&workspace.path("images"), 30, 32, 120);
    images(&workspace.path("drawn"), 12, 32, 100);
    let eval = ["eval", "drawn", "--data", "images", "--network", "resnet56"];
    let error = workspace.fail(&eval);
    assert!(error.contains("--network resnet56 needs --weights"), "{error}");
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/weights/cifar10-resnet56-4bfd9763.safetensors");
    let weights = weights.to_str().unwrap();
    workspace.succeed(&[&eval[..], &["--weights", weights, "--measures", "fd,kid", "--json", "found.json"]].concat());
    let found = &json(&workspace, "found.json")[0];
    assert!(value(found, "fd-resnet56") > 0.0 && figure(found, "kid-resnet56")["deviation"].is_number(), "{found}");
    assert_eq!(figure(found, "fd-resnet56")["network_sha256"].as_str().map(str::len), Some(64));
    let error = workspace.fail(&[&eval[..], &["--weights", weights, "--measures", "accuracy"]].concat());
    assert!(error.contains("resnet56 knows 10 classes, the data have 2"), "{error}");
}

#[test]
fn a_run_measures_itself_while_it_trains() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    workspace.succeed(&["train", "tiny.toml", "--out", "first", "--steps", "2"]);
    workspace.succeed(&[
        "eval",
        "first",
        "-n",
        "10",
        "--network",
        "judge",
        "--measures",
        "fd",
        "--save-statistics",
        "real.safetensors",
    ]);
    let evaluation = "evaluation={ every = 4, images = 10, weights = \"first/judge.safetensors\", statistics = \"real.safetensors\" }";
    let train = |out: &str, steps: &str| {
        workspace.succeed(&["train", "tiny.toml", "--out", out, "--steps", steps, "--set", evaluation])
    };
    train("second", "6");
    let lines = std::fs::read_to_string(workspace.path("second/evaluation.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<_> = lines.iter().map(|line| line["step"].as_u64()).collect();
    assert_eq!(steps, [Some(4), Some(6)]);
    for line in &lines {
        assert!(
            line["fd-judge"].as_f64().unwrap() > 0.0 && line["images"] == 100 && line["comparable"] == true,
            "{line}"
        );
    }
    // Measuring changes nothing.
    workspace.succeed(&["train", "tiny.toml", "--out", "third", "--steps", "6"]);
    let weights =
        |run: &str| std::fs::read(workspace.path(run).join("checkpoints/step_000006/model.safetensors")).unwrap();
    assert!(weights("second") == weights("third"));

    let other = evaluation.replace("first/judge", "nowhere/judge");
    let error = workspace.fail(&["train", "tiny.toml", "--out", "other", "--set", &other]);
    assert!(error.contains("nowhere/judge.safetensors"), "{error}");
    let resnet = evaluation.replace(
        "weights = \"first/judge.safetensors\"",
        &format!(
            "network = \"resnet56\", weights = {:?}",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/weights/cifar10-resnet56-4bfd9763.safetensors")
        ),
    );
    let error = workspace.fail(&["train", "tiny.toml", "--out", "other", "--set", &resnet]);
    assert!(error.contains("evaluation.statistics") && error.contains("resnet56"), "{error}");
}
