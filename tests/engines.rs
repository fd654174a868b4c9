//! Engines and their libraries by the built command: what is asked for and not there is an error that says what mends it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use common::{Server, Workspace};

/// A run of so many steps in `run`.
fn trained(steps: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.tiny_config();
    workspace.succeed(&["train", "tiny.toml", "--out", "run", "--steps", steps]);
    workspace
}

#[test]
fn what_is_not_there_is_an_error_that_says_what_mends_it() {
    let workspace = trained("1");
    workspace.succeed(&["export", "run", "--out", "model.onnx"]);
    let fail = |cache: &str, args: &[&str]| {
        let mut command = workspace.command(&[&["serve", "model.onnx", "--port", "0"], args].concat());
        command.env("DRIFTING_CACHE", workspace.path(cache)).env("DRIFTING_OFFLINE", "1").env_remove("ORT_DYLIB_PATH");
        let output = command.output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !message.contains("panicked"), "{args:?}: {message}");
        message
    };
    let offline = fail("empty", &["--engine", "onnxruntime"]);
    assert!(offline.contains("DRIFTING_OFFLINE"), "{offline}");
    // A provider that was asked for is never replaced, not by `auto` either.
    let cuda = fail("empty", &["--provider", "cuda"]);
    assert!(cuda.contains("`drifting runtime install --cuda`"), "{cuda}");
    let rten = fail("empty", &["--engine", "rten", "--provider", "cuda"]);
    assert!(rten.contains("--engine onnxruntime"), "{rten}");
    let device = fail("empty", &["--device", "1"]);
    assert!(device.contains("--provider cuda"), "{device}");
    let tensorrt = fail("empty", &["--engine", "tensorrt"]);
    let mends = ["--features tensorrt", "drifting runtime install --tensorrt"];
    assert!(mends.iter().any(|words| tensorrt.contains(words)), "{tensorrt}");
}

#[test]
fn the_runtime_is_installed_only_where_it_may_be() {
    let workspace = Workspace::new();
    let run = |args: &[&str]| {
        let mut command = workspace.command(args);
        command
            .env("DRIFTING_CACHE", workspace.path("cache"))
            .env("DRIFTING_OFFLINE", "1")
            .env_remove("ORT_DYLIB_PATH");
        command.output().unwrap()
    };
    for kit in ["--cuda", "--tensorrt"] {
        let output = run(&["runtime", "install", kit]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains("DRIFTING_OFFLINE"), "{message}");
    }
    assert!(!workspace.path("cache").exists(), "nothing is written");
    let output = run(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["engine"], &report["kits"][0]["installed"]), (&"rten".into(), &false.into()));
    assert_eq!(report["kits"][1]["kit"], "tensorrt");
    assert_eq!(report["system"][0]["name"], "libcuda.so.1");
}

/// The largest difference of two pictures, in levels.
fn difference(a: &[u8], b: &[u8]) -> u8 {
    let [a, b] = [a, b].map(|picture| image::load_from_memory(picture).unwrap().into_luma8());
    assert_eq!(a.dimensions(), b.dimensions());
    a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn a_model_of_one_batch_size_gives_any_number_of_images() {
    let workspace = trained("2");
    workspace.succeed(&["export", "run", "--out", "any.onnx"]);
    workspace.succeed(&["export", "run", "--out", "four.onnx", "--batch", "4"]);
    for engine in ["onnxruntime", "rten"] {
        let picture = |model: &str| {
            workspace.succeed(&["sample", model, "--engine", engine, "-n", "3", "--out", "samples.png"]);
            std::fs::read(workspace.path("samples.png")).unwrap()
        };
        assert!(difference(&picture("any.onnx"), &picture("four.onnx")) <= 1, "{engine}");
    }
    let [any, four] = ["any.onnx", "four.onnx"].map(|model| {
        let server = Server::start(&workspace, model);
        let (status, headers, picture) = server.request("POST", "/generate?class=3&seed=5");
        assert_eq!(status, 200, "{headers:?}");
        picture
    });
    assert!(difference(&any, &four) <= 1);
}

#[test]
fn every_batch_size_leaves_an_image_as_it_is_alone() {
    let workspace = trained("20");
    workspace.succeed(&["export", "run", "--out", "model.onnx"]);
    // The engine that a server takes, ONNX Runtime; then rten.
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(workspace.path("verify.json")).unwrap()).unwrap();
    let runners = report["runners"].as_array().unwrap();
    let names: Vec<_> = runners.iter().map(|runner| runner["name"].as_str().unwrap()).collect();
    assert!(
        ["onnxruntime", "rten"].iter().all(|engine| names.iter().any(|name| name.starts_with(engine))),
        "{names:?}"
    );
    for runner in runners {
        assert_eq!(runner["batch_invariance"], 0.0, "{runner}");
    }
    let (_, _, info) = Server::start(&workspace, "model.onnx").request("GET", "/info");
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!(info["limits"]["batch_sizes"], serde_json::json!([1, 2, 4, 8]));
}
