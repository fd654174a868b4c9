//! Several models in one command, and SIGHUP.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod common;
#[path = "../serve/tests/serve/fixture.rs"]
#[allow(dead_code, reason = "shared with the tests of the server")]
mod fixture;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Server, Workspace};
use serde_json::Value;

fn json(server: &Server, target: &str) -> Value {
    serde_json::from_slice(&server.request("GET", target).2).unwrap()
}

#[test]
fn a_hangup_swaps_the_file_that_changed() {
    let workspace = Workspace::new();
    for name in ["a.onnx", "b.onnx"] {
        fs::write(workspace.path(name), fixture::model()).unwrap();
    }
    let server = Server::start_with(&workspace, &["--engine", "rten", "a.onnx", "second=b.onnx"]);
    let before = json(&server, "/models")["models"].clone();
    assert_eq!((&before[0]["name"], &before[1]["name"]), (&"fixture".into(), &"second".into()));
    assert_eq!(before[0]["sha256"], before[1]["sha256"]);

    let changed = fixture::model_with(|parts| parts.manifest = parts.manifest.replace("T-shirt", "Shirt or blouse"));
    fs::write(workspace.path("new"), changed).unwrap();
    fs::rename(workspace.path("new"), workspace.path("b.onnx")).unwrap();
    server.signal("HUP");
    let begun = Instant::now();
    let after = loop {
        let after = json(&server, "/models")["models"].clone();
        if after[1]["sha256"] != before[1]["sha256"] && after[1]["state"] == "ready" {
            break after;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{after}");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(after[0], before[0]);
    let (status, headers, _) = server.request("POST", "/models/second/generate?class=Shirt+or+blouse");
    assert_eq!((status, headers["x-model"].as_str()), (200, after[1]["sha256"].as_str().unwrap()));
    assert_eq!(server.request("POST", "/generate?class=T-shirt").0, 200);
}

#[test]
fn models_of_one_name_are_refused_with_both_files() {
    let workspace = Workspace::new();
    for name in ["a.onnx", "b.onnx"] {
        fs::write(workspace.path(name), fixture::model()).unwrap();
    }
    let error = workspace.fail(&["serve", "a.onnx", "b.onnx", "--engine", "rten", "--port", "0"]);
    assert!(
        error.contains("\"fixture\"") && error.contains("a.onnx and b.onnx") && error.contains("NAME=b.onnx"),
        "{error}"
    );
}

/// As when the terminal ends in which the server was started.
#[test]
fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let workspace = Workspace::new();
    fs::write(workspace.path("a.onnx"), fixture::model()).unwrap();
    let mut command = workspace.command(&["serve", "a.onnx", "--engine", "rten", "--port", "0"]);
    let mut server = Server::spawn(command.stderr(Stdio::piped()));
    server.break_log();
    server.signal("HUP");
    for _ in 0..3 {
        assert_eq!(server.request("POST", "/generate?class=1&seed=7").0, 200);
        assert_eq!(server.request("POST", "/generate?class=77").0, 422);
    }
}
