use std::fs;
use std::sync::atomic::Ordering;

use candle_core::{Device, Tensor};
use drifting_models::weights;

use super::*;
use crate::config::{OptimizerStart, QueueSettings, ScheduleStart, StartSettings, TrainConfig, WarmUp};
use crate::ranks::Alone;

fn config() -> TrainConfig {
    let text = r#"
        name = "test"
        steps = 7
        data = { embedded = "fashion-mnist" }
        batch = { classes = 2, generated = 3, positives = 4, unconditional = 2 }
        features = { keys = ["global", "patch_7"] }
        schedule = { lr = 1e-3 }
        ema = { decays = [0.9, 0.99] }
        output = { metrics_every = 1, samples_every = 3, checkpoint_every = 3, keep_checkpoints = 2 }
        sampling = { grid_alphas = [1.0, 2.0], grid_images = 1, grid_classes = 2 }
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
    TrainConfig::parse(text, "test", &[]).unwrap()
}

/// Asks to stop after a number of steps.
struct StopAfter<'a>(u64, &'a AtomicBool, Vec<u64>);

impl Observer for StopAfter<'_> {
    fn started(&mut self, step: u64, _: &dyn RunSettings) {
        self.2.push(step);
    }
    fn stepped(&mut self, report: &Report) {
        if report.step == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
    fn wrote(&mut self, path: &Path) {
        assert!(path.exists());
    }
}

fn run(config: &TrainConfig, folder: &Path, stop_after: u64) -> Result<Outcome, RunError> {
    run_allowing(config, folder, stop_after, &[])
}

fn run_allowing(
    config: &TrainConfig,
    folder: &Path,
    stop_after: u64,
    allow_changed: &[String],
) -> Result<Outcome, RunError> {
    let (feed, _) = config.reading().feed(config.queue).unwrap();
    let (stop, build) = (AtomicBool::new(false), Build::default());
    let launch =
        Launch { folder, allow_changed, build: &build, command: &["test".to_owned()], stop: &stop, ranks: &Alone };
    let mut experiment = GeneratorRun::new(config, feed)?;
    train(&mut experiment, &launch, &mut StopAfter(stop_after, &stop, Vec::new()))
}

fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| (path.file_name().unwrap().to_string_lossy().into(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_stopped_run_ends_with_the_bytes_of_the_straight_one() {
    let folder = tempfile::tempdir().unwrap();
    let (straight, stopped) = (folder.path().join("straight"), folder.path().join("stopped"));
    let config = config();
    let whole = run(&config, &straight, 0).unwrap();
    assert_eq!((whole.step, whole.finished), (7, true));
    for (stop_after, expected) in [(1, 1), (5, 5), (0, 7)] {
        assert_eq!(run(&config, &stopped, stop_after).unwrap().step, expected);
    }
    let names: Vec<_> = bytes(&whole.checkpoint).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ema_0.9.safetensors", "ema_0.99.safetensors", "model.safetensors", "state.safetensors"]);
    assert_eq!(bytes(&whole.checkpoint), bytes(&stopped.join("checkpoints/step_000007")));
    assert_eq!(bytes(&straight.join("samples")), bytes(&stopped.join("samples")));
    let steps = |folder: &Path| fs::read_to_string(folder.join("metrics.jsonl")).unwrap().lines().count();
    assert_eq!((steps(&straight), steps(&stopped)), (7, 7));
    assert_eq!(fs::read_dir(straight.join("checkpoints")).unwrap().count(), 2, "older checkpoints are deleted");
}

#[test]
fn a_run_that_died_while_writing_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    run(&config, folder.path(), 4).unwrap();
    // Killed while writing the next checkpoint and after metrics of steps that were never saved.
    fs::create_dir(folder.path().join("checkpoints/step_000006.partial")).unwrap();
    fs::write(folder.path().join("checkpoints/step_000006.partial/model.safetensors"), "half").unwrap();
    let metrics = folder.path().join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, format!("{text}{{\"step\":5}}\n{{\"st")).unwrap();
    assert!(run(&config, folder.path(), 0).unwrap().finished);
    assert_eq!(fs::read_to_string(&metrics).unwrap().lines().count(), 7);
}

#[test]
fn other_settings_are_refused_and_more_steps_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    run(&config, folder.path(), 2).unwrap();
    let mut other = config.clone();
    other.schedule.lr = 2e-3;
    let message = run(&other, folder.path(), 0).unwrap_err().to_string();
    assert!(message.contains("schedule.lr = 0.001, now it is 0.002"), "{message}");
    let longer = TrainConfig { steps: 9, ..config };
    assert_eq!(run(&longer, folder.path(), 0).unwrap().step, 9);
}

#[test]
fn named_changes_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    run(&config, folder.path(), 2).unwrap();
    let mut other = config.clone();
    (other.schedule.lr, other.ema.decays, other.optimizer.clip) = (2e-3, vec![0.9, 0.5], 3.0);
    let message = run(&other, folder.path(), 0).unwrap_err().to_string();
    for part in ["schedule.lr = 0.001", "optimizer.clip", "--allow-changed ema.decays,optimizer.clip,schedule.lr"] {
        assert!(message.contains(part), "{message}");
    }
    let allowed = ["ema", "optimizer.clip"].map(str::to_owned);
    let message = run_allowing(&other, folder.path(), 0, &allowed).unwrap_err().to_string();
    assert!(message.contains("schedule.lr") && !message.contains("clip"), "{message}");
    let allowed = ["ema", "optimizer", "schedule.lr"].map(str::to_owned);
    let outcome = run_allowing(&other, folder.path(), 0, &allowed).unwrap();
    assert_eq!(outcome.step, 7);
    // The new average began at the weights of step 2, and the next call needs no permission.
    assert!(outcome.checkpoint.join("ema_0.5.safetensors").exists());
    assert!(!outcome.checkpoint.join("ema_0.99.safetensors").exists());
    run(&other, folder.path(), 0).unwrap();
}

#[test]
fn two_processes_cannot_train_in_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let held = fs::File::create(folder.path().join(".lock")).unwrap();
    held.try_lock().unwrap();
    assert!(matches!(run(&config, folder.path(), 0), Err(RunError::Busy { .. })));
    drop(held);
    run(&config, folder.path(), 1).unwrap();
}

fn state(folder: &Path, name: &str) -> Tensor {
    let checkpoint = RunFolder::open(folder).unwrap().latest().unwrap().unwrap();
    weights::read(&checkpoint.path().join("state.safetensors"), &Device::Cpu).unwrap().tensors[name].clone()
}

fn count(folder: &Path, name: &str) -> i64 {
    state(folder, name).to_scalar().unwrap()
}

#[test]
fn a_run_can_start_from_the_weights_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let [first, reset, restored] = ["first", "reset", "restored"].map(|name| folder.path().join(name));
    let mut config = config();
    config.schedule.warmup_steps = 5;
    let before = run(&config, &first, 0).unwrap();
    let from = |optimizer, schedule| {
        let start = StartSettings { model: first.clone(), optimizer, schedule };
        TrainConfig { start: Some(start), steps: 1, ..config.clone() }
    };
    run(&from(OptimizerStart::Reset, ScheduleStart::Reset), &reset, 0).unwrap();
    run(&from(OptimizerStart::Restore, ScheduleStart::Continue), &restored, 0).unwrap();
    let counts = |folder: &Path| ["adamw.step", "run.step", "run.schedule_from"].map(|name| count(folder, name));
    assert_eq!((counts(&reset), counts(&restored)), ([1, 1, 0], [8, 1, 7]));

    // At the beginning of its warm-up the first step of the reset run is too small to see, that of the other is not.
    let weights_of = |path: &Path| weights::read(path, &Device::Cpu).unwrap().tensors["patch_embed.weight"].clone();
    let origin = weights_of(&before.checkpoint.join("model.safetensors"));
    let moved = |folder: &Path| {
        let now = weights_of(&folder.join("checkpoints/step_000001/model.safetensors"));
        (now - &origin).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
    };
    let (small, large) = (moved(&reset), moved(&restored));
    assert!(0.0 < small && small < 1e-5 && large > 1e-4, "{small} {large}");

    // A moving average is started from by its file, which has no moments to restore.
    let file = before.checkpoint.join("ema_0.9.safetensors");
    let start =
        StartSettings { model: file.clone(), ..from(OptimizerStart::Reset, ScheduleStart::Reset).start.unwrap() };
    let config = TrainConfig { start: Some(start.clone()), ..config };
    run(&config, &folder.path().join("average"), 1).unwrap();
    for start in [
        StartSettings { optimizer: OptimizerStart::Restore, ..start.clone() },
        StartSettings { schedule: ScheduleStart::Continue, ..start },
    ] {
        let config = TrainConfig { start: Some(start), ..config.clone() };
        let message = run(&config, &folder.path().join("refused"), 1).unwrap_err().to_string();
        assert!(message.contains("ema_0.9") && message.contains("needs a run folder or a checkpoint"), "{message}");
    }
}

#[test]
fn a_started_run_goes_on_bit_for_bit_without_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let [first, straight, stopped] = ["first", "straight", "stopped"].map(|name| folder.path().join(name));
    let config = config();
    run(&config, &first, 3).unwrap();
    let start =
        StartSettings { model: first.clone(), optimizer: OptimizerStart::Restore, schedule: ScheduleStart::Continue };
    let config = TrainConfig { start: Some(start), seed: 5, steps: 4, ..config };
    let whole = run(&config, &straight, 0).unwrap();
    run(&config, &stopped, 2).unwrap();
    fs::remove_dir_all(&first).unwrap();
    let outcome = run(&config, &stopped, 0).unwrap();
    assert_eq!(bytes(&whole.checkpoint), bytes(&outcome.checkpoint));
}

#[test]
fn numbers_that_are_not_finite_stop_the_run_and_name_its_images() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    (config.output.checkpoint_every, config.output.samples_every) = (1, 0);
    run(&config, folder.path(), 2).unwrap();
    // A rate that throws the weights so far that the next images overflow.
    config.schedule.lr = 1e30;
    let allowed = ["schedule.lr".to_owned()];
    let error = run_allowing(&config, folder.path(), 0, &allowed).unwrap_err();
    let message = error.to_string();
    let RunError::Step { step, .. } = error else { panic!("{message}") };
    assert!(message.contains("images of the data") && message.contains("failure.json"), "{message}");
    let failure: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("failure.json")).unwrap()).unwrap();
    assert_eq!(failure["step"], step);
    // Two classes with four positives and two unconditional images each.
    assert_eq!(failure["images"].as_array().unwrap().len(), 12);

    // The last good checkpoint is that of the step before, and whole.
    let run_folder = RunFolder::open(folder.path()).unwrap();
    let checkpoint = run_folder.latest().unwrap().unwrap();
    assert!(checkpoint.path().ends_with(format!("step_{:06}", step - 1)));
    assert!(fs::read_to_string(folder.path().join("RUN.md")).unwrap().contains("images of the data"));
    for (name, _) in bytes(checkpoint.path()) {
        weights::read(&checkpoint.path().join(name), &Device::Cpu).unwrap();
    }
}

#[test]
fn a_run_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    run(&config, folder.path(), 2).unwrap();
    run(&config, folder.path(), 0).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("run.json")).unwrap()).unwrap();
    assert_eq!((&json["kind"], &json["seed"]), (&"generator".into(), &42.into()));
    assert_eq!(json["data_sha256"].as_str().unwrap().len(), 64);
    let starts = json["starts"].as_array().unwrap();
    let ends: Vec<_> = starts.iter().map(|start| (start["from_step"].as_u64(), start["outcome"].as_str())).collect();
    assert_eq!(ends, [(Some(0), Some("stopped")), (Some(2), Some("finished"))]);
    assert_eq!(starts[0]["command"][0], "test");
    let page = fs::read_to_string(folder.path().join("RUN.md")).unwrap();
    for part in ["7 of 7 steps; finished", "`schedule.lr` | 0.001", "step_000007.png", "curves.svg", "## To reproduce"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(fs::read_to_string(folder.path().join("curves.svg")).unwrap().contains("gradient_norm"));
}

#[test]
fn what_queues_lacked_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let queue = QueueSettings {
        per_class: 3,
        global: 4,
        push_per_step: 8,
        loader_batch: 8,
        warm_up: WarmUp::None,
        ..QueueSettings::default()
    };
    let config = TrainConfig { queue: Some(queue), steps: 3, ..config() };
    run(&config, folder.path(), 0).unwrap();
    let metrics = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    // Queues of three never hold the four positives of a class, so two groups of each step repeat an image.
    let (underflows, repeated) = (last["feed"]["underflows"].as_u64().unwrap(), last["feed"]["repeated"].as_u64());
    assert!(underflows >= 6 && repeated.unwrap() >= underflows, "{last}");
    assert!(last["data_wait_seconds"].as_f64().is_some_and(|wait| wait >= 0.0), "{last}");
    let page = fs::read_to_string(folder.path().join("RUN.md")).unwrap();
    for part in [format!("`feed.underflows` | {underflows} "), "`data_wait_seconds` | ".to_owned()] {
        assert!(page.contains(&part), "{part}: {page}");
    }

    let strict = QueueSettings { strict: true, per_class: 4, ..queue };
    let config = TrainConfig { queue: Some(strict), ..config };
    let message = run(&config, &folder.path().join("strict"), 0).unwrap_err().to_string();
    assert!(message.contains("without repetition (queue.strict)"), "{message}");
}

#[test]
fn the_weights_of_a_checkpoint_describe_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    run(&config, folder.path(), 2).unwrap();
    let run = RunFolder::open(folder.path()).unwrap();
    let checkpoint = run.latest().unwrap().unwrap();
    let model = checkpoint.average(&run.config().unwrap().ema.decays, Some(0.99)).unwrap();
    assert_eq!((model.manifest.provenance.step, model.manifest.provenance.ema_decay), (2, Some(0.99)));
    assert_eq!((model.manifest.classes.len(), model.manifest.provenance.weights_sha256.len()), (10, 64));
    model.generator().unwrap();
    assert!(checkpoint.average(&config.ema.decays, Some(0.5)).unwrap_err().to_string().contains("it has [0.9, 0.99]"));
    assert!(RunFolder::open(&folder.path().join("samples")).is_err());
}
