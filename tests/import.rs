//! The road of docs/import.md: from an artefact in the authors' layout to an image from the server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Server, Workspace};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[test]
fn an_artefact_of_the_authors_becomes_an_http_image() {
    let workspace = Workspace::new();
    let (artefact, decoder) = (golden("generator"), golden("vae"));
    let said = workspace.succeed(&["import", artefact.to_str().unwrap(), "--out", "generator.safetensors"]);
    assert!(said.contains("image 4x32x32, patch 8, hidden 48, depth 2, heads 3, classes 10"), "{said}");
    assert!(said.contains("step 7, EMA decay 0.999"), "{said}");

    // Latents alone are no picture, and that is said before a server starts.
    workspace.succeed(&["export", "generator.safetensors", "--out", "latents.onnx", "--engine", "rten"]);
    let error = workspace.fail(&["serve", "latents.onnx", "--port", "0", "--engine", "rten"]);
    assert!(error.contains("latents need their decoder in the file"), "{error}");
    assert!(!workspace.path("samples.png").exists(), "latents are no pictures");

    let decoder = decoder.to_str().unwrap();
    workspace.succeed(&["export", "generator.safetensors", "--decoder", decoder, "--out", "model.onnx"]);
    let card = std::fs::read_to_string(workspace.path("MODEL_CARD.md")).unwrap();
    assert!(card.contains("3x64x64 colour images of 10 classes") && card.contains("optimizer step 7"), "{card}");
    assert!(image::open(workspace.path("samples.png")).unwrap().width() > 64);

    let server = Server::start(&workspace, "model.onnx");
    let (status, headers, first) = server.request("POST", "/generate?class=3&alpha=1.5&seed=7");
    assert_eq!((status, headers["content-type"].as_str()), (200, "image/png"));
    let picture = image::load_from_memory(&first).unwrap().into_rgb8();
    assert_eq!(picture.dimensions(), (64, 64));
    let (_, _, other) = server.request("POST", "/generate?class=4&alpha=1.5&seed=7");
    assert_ne!(image::load_from_memory(&other).unwrap().into_rgb8(), picture, "another class is another image");
}

#[test]
fn a_repository_on_triton_comes_from_an_artefact_too() {
    let workspace = Workspace::new();
    workspace.succeed(&["import", golden("generator").to_str().unwrap(), "--out", "generator.safetensors"]);
    let target = ["--target", "kserve", "--engine", "rten", "--batches", "1,4", "--name", "golden", "--out", "deploy"];
    workspace.succeed(&[&["export", "generator.safetensors"], &target[..]].concat());
    for file in ["inferenceservice.yaml", "models/golden/config.pbtxt", "models/golden/1/model.onnx"] {
        assert!(workspace.path("deploy").join(file).is_file(), "{file}");
    }
    let wrong = ["export", "generator.safetensors", "--target", "triton", "--batches", "4,2", "--out", "other"];
    let error = workspace.fail(&wrong);
    assert!(error.contains("batches: [4, 2] are no ascending sizes") && !workspace.path("other").exists(), "{error}");

    let table = workspace.succeed(&[
        "bench",
        "deploy/models/golden/1/model.onnx",
        "--engine",
        "rten",
        "--batches",
        "1,2",
        "--threads",
        "1",
        "--window",
        "0.05",
        "--warm-up",
        "0",
        "--windows",
        "3",
        "--csv",
    ]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.starts_with("threads,batch,images_per_second,") && table.contains("\n1,2,"), "{table}");
}

/// This machine may or may not be online: the hub here is one that is not there.
#[test]
fn without_a_network_the_error_is_clear_and_soon() {
    let workspace = Workspace::new();
    let import = |variable: &str, value: &str| {
        let mut command = workspace.command(&["import", "latent_B_sota", "--hub"]);
        command.env("HF_HOME", workspace.path("hub")).env_remove("DRIFTING_OFFLINE").env_remove("HF_HUB_OFFLINE");
        for proxy in ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        let start = Instant::now();
        let output = command.env(variable, value).output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        assert!(!output.status.success());
        common::text(&output.stderr)
    };
    let unreachable = import("HF_ENDPOINT", "https://hub.invalid");
    assert!(unreachable.contains("not under its licence"), "the terms come first: {unreachable}");
    assert!(unreachable.contains("Goodeat/drifting at https://hub.invalid: cannot be reached ("), "{unreachable}");
    assert!(unreachable.contains("Is this machine online?"), "{unreachable}");
    let forbidden = import("DRIFTING_OFFLINE", "1");
    assert!(forbidden.contains("DRIFTING_OFFLINE forbids the network"), "{forbidden}");
    assert!(!workspace.path("hub").exists() && !workspace.path("generator.safetensors").exists());
}
