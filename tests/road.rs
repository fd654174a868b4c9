//! From images to an HTTP image: train, stop, go on, export, verify, sample, serve.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Server, Workspace, files};

#[test]
fn images_become_an_http_image() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    workspace.succeed(&["train", "tiny.toml", "--out", "run"]);
    workspace.succeed(&["export", "run", "--out", "model.onnx"]);
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(workspace.path("verify.json")).unwrap()).unwrap();
    assert_eq!(report["passed"], true);
    assert!(report["runners"].as_array().unwrap().len() >= 3, "candle-onnx, ONNX Runtime, rten: {report}");

    let server = Server::start(&workspace, "model.onnx");
    let target = "/generate?class=3&alpha=1.5&seed=7";
    let (status, headers, first) = server.request("POST", target);
    assert_eq!((status, headers["content-type"].as_str(), headers["x-seed"].as_str()), (200, "image/png", "7"));
    assert_eq!(server.request("POST", target).2, first, "the same request gives the same bytes");

    let load =
        ["load", &server.address, "--concurrency", "2", "--rate", "20", "--csv", "load.csv", "--json", "load.json"];
    let short = ["--warm-up", "0.1", "--window", "0.2", "--seconds", "0.6"];
    let table = workspace.succeed(&[&load[..], &short].concat());
    assert!(table.contains("2 clients") && table.contains("20/s poisson"), "{table}");
    assert_eq!(std::fs::read_to_string(workspace.path("load.csv")).unwrap().lines().count(), 3);
    let load: serde_json::Value = serde_json::from_slice(&std::fs::read(workspace.path("load.json")).unwrap()).unwrap();
    assert!(load["points"][0]["answered"].as_u64() > Some(0) && load["server"]["model"]["name"] == "tiny", "{load}");
    let error = workspace.fail(&["load", &server.address, "--class", "77", "--seconds", "0.2", "--warm-up", "0"]);
    assert!(error.contains("no request was answered"), "{error}");

    let sample =
        ["sample", "model.onnx", "--class", "3", "--alpha", "1.5", "--seed", "7", "-n", "1", "--out", "one.png"];
    workspace.succeed(&sample);
    let decode = |bytes: &[u8]| image::load_from_memory(bytes).unwrap().into_luma8();
    let sampled = decode(&std::fs::read(workspace.path("one.png")).unwrap());
    assert_eq!(sampled, decode(&first), "drifting sample gives the same pixels");

    // candle and ONNX Runtime differ in the last bits, which may turn a rounding.
    workspace.succeed(&[
        "sample", "run", "--class", "Dress", "--alpha", "1.5", "--seed", "7", "-n", "1", "--out", "two.png",
    ]);
    let candle = decode(&std::fs::read(workspace.path("two.png")).unwrap());
    assert!(candle.iter().zip(sampled.iter()).all(|(a, b)| a.abs_diff(*b) <= 1));

    let (status, _, body) = server.request("POST", "/generate?class=77");
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, error["error"]["parameter"].as_str()), (422, Some("class")));
    let (status, _, page) = server.request("GET", "/");
    assert!(status == 200 && String::from_utf8_lossy(&page).contains("<html"));
}

/// Kills a run at any moment, again and again; in the end the bytes are those of the straight run.
#[cfg(unix)]
#[test]
fn a_stopped_and_a_killed_run_end_with_the_bytes_of_the_straight_one() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    workspace.succeed(&["train", "tiny.toml", "--out", "straight"]);
    let last = "checkpoints/step_000120";
    let straight = files(&workspace.path("straight").join(last));
    for (name, signal) in [("stopped", "-INT"), ("killed", "-KILL")] {
        let folder = workspace.path(name);
        let mut interrupted = 0;
        for attempt in 0.. {
            let mut command = workspace.command(&["train", "tiny.toml", "--out", name]);
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            // Moments that differ from attempt to attempt, and late enough to get on.
            let moment = Instant::now() + Duration::from_millis(100 + 170 * attempt % 1000);
            while child.try_wait().unwrap().is_none() && (Instant::now() < moment || attempt > 6) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if child.try_wait().unwrap().is_none() {
                interrupted += 1;
                let id = child.id().to_string();
                assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
            }
            if child.wait().unwrap().success() {
                break;
            }
        }
        assert!(interrupted > 0, "the run was too fast to be interrupted");
        assert_eq!(files(&folder.join(last)), straight, "{name}");
    }
}

#[test]
fn mistakes_are_explained() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let wrong_key = workspace.fail(&["train", "tiny.toml", "--set", "schedule.learning_rate=1"]);
    assert!(wrong_key.contains("learning_rate") && wrong_key.contains("lr"), "{wrong_key}");
    let absent = workspace.fail(&["train", "absent.toml"]);
    assert!(absent.contains("absent.toml"), "{absent}");
    let no_run = workspace.fail(&["export", "nowhere", "--out", "model.onnx"]);
    assert!(no_run.contains("nowhere"), "{no_run}");
    let no_data = workspace.fail(&["train", "tiny.toml", "--data", "no-images"]);
    assert!(no_data.contains("no-images"), "{no_data}");
    std::fs::write(workspace.path("broken.onnx"), b"\x08\x08broken").unwrap();
    let broken = workspace.fail(&["serve", "broken.onnx"]);
    assert!(broken.contains("broken.onnx"), "{broken}");
    workspace.succeed(&["train", "tiny.toml", "--dry-run"]);
    assert!(!workspace.path("runs").exists(), "a dry run writes nothing");
}

#[test]
fn a_profile_says_where_the_time_of_a_step_goes() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let table = workspace.succeed(&["train", "tiny.toml", "--profile", "2", "--trace", "trace.json"]);
    let row = |name: &str| {
        let line = table.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}: {table}")).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    // The parts' times add up to the step's: its milliseconds stand behind the calls.
    let ms = |name: &str| row(name)[2].parse::<f64>().unwrap();
    let parts = ["outside", "data", "generate", "encode", "drift", "backward", "optimizer"].map(ms);
    assert!((parts.iter().sum::<f64>() - ms("all")).abs() < 0.1 && ms("all") > 0.0, "{table}");
    assert!(row("block, backward").iter().any(|cell| cell == "%"), "{table}");
    let trace: serde_json::Value =
        serde_json::from_slice(&std::fs::read(workspace.path("trace.json")).unwrap()).unwrap();
    let steps = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["name"] == "step").count();
    assert_eq!(steps, 2);
    assert!(!workspace.path("runs").exists(), "a profile touches no run");
}
