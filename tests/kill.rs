//! Kill -9 at any moment: what was saved is whole, and the run ends with the bytes of the one that was never killed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]
#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Workspace, files};
use drifting_spec::Stream;

/// The encoder whose features the generator drifts in.
const ENCODER: &str = r#"
name = "encoder"
steps = 40
data = { embedded = "fashion-mnist" }
batch = { images = 8 }
augment = { crop = "random", flip = true }
loader = { workers = 1 }
schedule = { lr = 1e-3 }
ema = { decays = [0.9] }
finetune = { steps = 20, ramp = 10 }
evaluation = { every = 0, images = 8 }
output = { checkpoint_every = 1, samples_every = 7, metrics_every = 1 }

[mae]
image = { channels = 1, height = 28, width = 28 }
input_patch = 4
base_channels = 8
blocks = [1, 1, 1, 1]
classes = 10
"#;

/// A generator that drifts in its features, with queues whose images a checkpoint must bring back.
const GENERATOR: &str = r#"
name = "generator"
steps = 40
data = { embedded = "fashion-mnist" }
augment = { flip = true }
batch = { classes = 2, generated = 3, positives = 4, unconditional = 2 }
drift = { scale_scope = "ema" }
schedule = { lr = 1e-3, warmup_steps = 5 }
ema = { decays = [0.9, 0.99] }
output = { checkpoint_every = 1, samples_every = 0, metrics_every = 1 }

[features]
keys = ["global", "layer1_mean", "layer2_std", "layer4_mean"]
encoder = { mae = "encoder" }

[queue]
per_class = 8
global = 20
push_per_step = 8
loader_batch = 8

[generator]
image = { channels = 1, height = 28, width = 28 }
patch = 14
hidden = 16
depth = 1
heads = 2
classes = 10
style_tokens = 2
registers = 1
"#;

#[test]
fn a_run_with_features_and_queues_survives_twenty_kills() {
    let workspace = Workspace::new();
    std::fs::write(workspace.path("encoder.toml"), ENCODER).unwrap();
    workspace.succeed(&["train", "encoder.toml", "--out", "encoder", "--steps", "3"]);
    survives(&workspace, GENERATOR, 20);
}

#[test]
fn an_encoder_survives_eight_kills() {
    survives(&Workspace::new(), ENCODER, 8);
}

/// Runs the experiment once, then again and again with kills at random moments; every fourth one strikes while a
/// checkpoint is being written. All that is finished must have the bytes of the first run.
fn survives(workspace: &Workspace, config: &str, kills: usize) {
    std::fs::write(workspace.path("run.toml"), config).unwrap();
    let started = Instant::now();
    workspace.succeed(&["train", "run.toml", "--out", "straight"]);
    let whole = started.elapsed();
    let last = Path::new("checkpoints/step_000040");
    let straight = files(&workspace.path("straight").join(last));
    let mut moments = Stream::new(7, "kills", kills as u64);
    let (mut killed, mut writing, mut folders) = (0, 0, 0);
    while killed < kills {
        folders += 1;
        let name = format!("killed_{folders}");
        let folder = workspace.path(&name);
        loop {
            let mut child = start(workspace, &name);
            if killed < kills {
                let in_write = killed % 4 == 3;
                writing += usize::from(in_write && wait_for_write(&mut child, &folder.join("checkpoints"), whole));
                if !in_write {
                    wait(&mut child, whole.mul_f64(moments.uniform()));
                }
                killed += usize::from(child.try_wait().unwrap().is_none());
                child.kill().unwrap();
            }
            if child.wait().unwrap().success() {
                break;
            }
        }
        assert_eq!(files(&folder.join(last)), straight, "{name} after {killed} kills");
        let lines = |folder: &Path| std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap().lines().count();
        assert_eq!(lines(&folder), lines(&workspace.path("straight")), "{name}: one line a step");
    }
    assert!(writing > 0, "no kill struck while a checkpoint was being written");
}

fn start(workspace: &Workspace, name: &str) -> Child {
    let mut command = workspace.command(&["train", "run.toml", "--out", name]);
    command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Waits for a moment, or for the end of the run.
fn wait(child: &mut Child, moment: Duration) {
    let moment = Instant::now() + moment;
    while Instant::now() < moment && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until a checkpoint is being written; false when the run ends or `most` passes before that is seen.
fn wait_for_write(child: &mut Child, checkpoints: &Path, most: Duration) -> bool {
    let partial = |path: PathBuf| path.extension().is_some_and(|extension| extension == "partial");
    let until = Instant::now() + 2 * most;
    // A killed run leaves its half-written checkpoint behind until the next one is written.
    let before: Vec<PathBuf> = entries(checkpoints);
    while Instant::now() < until && child.try_wait().unwrap().is_none() {
        if entries(checkpoints).into_iter().any(|path| !before.contains(&path) && partial(path)) {
            return true;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    false
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}
