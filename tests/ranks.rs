//! Runs of several processes, started by `mpirun` (see tools/mpi).

#![cfg(feature = "mpi")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use common::{Workspace, files, text};

/// `mpirun` of `ranks` processes that train the tiny configuration with one thread each.
fn mpirun(workspace: &Workspace, ranks: usize, args: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", &ranks.to_string()]);
    command.arg(env!("CARGO_BIN_EXE_drifting")).args(["train", "tiny.toml"]).args(args);
    command.current_dir(workspace.path("")).env("RAYON_NUM_THREADS", "1");
    command
}

fn trained(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

fn weights(workspace: &Workspace, run: &str, step: u32) -> BTreeMap<String, Tensor> {
    let path = workspace.path(run).join(format!("checkpoints/step_{step:06}/model.safetensors"));
    drifting_models::weights::read(&path, &Device::Cpu).unwrap().tensors
}

/// |x - y| / |y| of all weights together. AdamW's first steps follow the sign of a gradient however small it is, so that those of
/// the embedding of alpha differ by up to 5e-4 of their own norm.
fn apart(left: &BTreeMap<String, Tensor>, right: &BTreeMap<String, Tensor>) -> f64 {
    assert!(left.keys().eq(right.keys()) && !left.is_empty());
    let square = |x: &Tensor| f64::from(x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
    let differences: f64 = left.iter().map(|(name, x)| square(&(x - &right[name]).unwrap())).sum();
    (differences / right.values().map(square).sum::<f64>()).sqrt()
}

/// Loss of every step.
fn losses(run: &Path) -> Vec<f64> {
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let loss = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap();
    lines.lines().map(loss).collect()
}

/// The setting of queues whose classes are shared out.
const QUEUES: &str = "queue={per_class=16, global=40, push_per_step=16, loader_batch=16, warm_up={per_class=8}}";

#[test]
fn two_and_four_ranks_train_what_one_does() {
    two_and_four_ranks_agree(&[]);
}

#[test]
fn two_and_four_ranks_that_share_out_queues_train_what_one_does() {
    two_and_four_ranks_agree(&["--set", QUEUES]);
}

fn two_and_four_ranks_agree(more: &[&str]) {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let every_step = [&["--steps", "20", "--set", "output.metrics_every=1"], more].concat();
    workspace.succeed(&[&["train", "tiny.toml", "--out", "one"], &every_step[..]].concat());
    let (one, loss) = (weights(&workspace, "one", 20), losses(&workspace.path("one")));
    assert_eq!(loss.len(), 20);
    for ranks in [2, 4] {
        let run = format!("of{ranks}");
        trained(&mut mpirun(&workspace, ranks, &[&["--out", &run], &every_step[..]].concat()));
        let found = apart(&weights(&workspace, &run, 20), &one);
        assert!(found < 1e-5, "{ranks} ranks: weights {found}");
        for (found, loss) in losses(&workspace.path(&run)).into_iter().zip(&loss) {
            assert!((found / loss - 1.0).abs() < 1e-5, "{ranks} ranks: {found} {loss}");
        }
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let mpirun = |ranks, args: &[&str]| mpirun(&workspace, ranks, &[args, &["--set", QUEUES]].concat());
    trained(&mut mpirun(2, &["--out", "straight", "--steps", "20"]));
    trained(&mut mpirun(2, &["--out", "run", "--steps", "10"]));
    trained(&mut mpirun(2, &["--out", "run", "--steps", "20"]));
    let checkpoint = |run: &str| files(&workspace.path(run).join("checkpoints/step_000020"));
    assert!(checkpoint("straight") == checkpoint("run"), "other bytes");
    for ranks in [4, 1, 3] {
        let run = format!("then{ranks}");
        trained(&mut mpirun(2, &["--out", &run, "--steps", "10"]));
        trained(&mut mpirun(ranks, &["--out", &run, "--steps", "20"]));
        let found = apart(&weights(&workspace, &run, 20), &weights(&workspace, "straight", 20));
        assert!(found < 1e-5, "{ranks} ranks: {found}");
    }
}

/// Processes of a run by their command line, without the launcher.
fn processes(run: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        if words[0].ends_with("drifting") && words.iter().any(|word| word == run) {
            found.push(id);
        }
    }
    found
}

#[test]
fn the_death_of_a_rank_ends_the_job_and_it_goes_on_from_the_checkpoint() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    trained(&mut mpirun(&workspace, 2, &["--out", "straight"]));
    let run = format!("killed-{}", std::process::id());
    let job = mpirun(&workspace, 2, &["--out", &run]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (started, latest) = (Instant::now(), workspace.path(&run).join("latest"));
    while !latest.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(10));
    }
    let victim = *processes(&run).last().unwrap();
    assert!(Command::new("kill").args(["-9", &victim.to_string()]).status().unwrap().success());
    let output = job.wait_with_output().unwrap();
    assert!(!output.status.success());
    let told = text(&output.stderr).to_lowercase();
    assert!(told.contains("signal") || told.contains("killed"), "{told}");
    assert!(processes(&run).is_empty(), "others live on");
    trained(&mut mpirun(&workspace, 2, &["--out", &run]));
    let checkpoint = |run: &str| files(&workspace.path(run).join("checkpoints/step_000120"));
    assert!(checkpoint("straight") == checkpoint(&run), "other bytes");
}

#[test]
fn an_error_in_one_rank_ends_them_all() {
    let workspace = Workspace::new();
    workspace.tiny_config();
    let output = mpirun(&workspace, 5, &["--out", "run"]).output().unwrap();
    let told = text(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("batch.classes: 4 class groups for 5 processes"), "{told}");
    let output = mpirun(&workspace, 2, &["--out", "run", "--set", "schedule.lr=1e30"]).output().unwrap();
    let told = text(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("error in rank") && told.contains("images of the data"), "{told}");
    assert!(workspace.path("run/failure.json").exists());
}
