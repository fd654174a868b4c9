use super::*;
use std::fs;

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
    fn started(&mut self, step: u64, _: &TrainConfig) {
        self.2.push(step);
    }
    fn stepped(&mut self, report: &StepReport) {
        if report.step == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
    fn wrote(&mut self, path: &Path) {
        assert!(path.exists());
    }
}

fn run(config: &TrainConfig, folder: &Path, stop_after: u64) -> Result<Outcome, RunError> {
    let (data, _) = config.data.open(config.generator.image).unwrap();
    let stop = AtomicBool::new(false);
    train(config, &data, folder, &stop, &mut StopAfter(stop_after, &stop, Vec::new()))
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
fn two_processes_cannot_train_in_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let (data, _) = config.data.open(config.generator.image).unwrap();
    let _held = RunFolder::create(folder.path(), &config, &data).unwrap();
    assert!(matches!(run(&config, folder.path(), 0), Err(RunError::Busy { .. })));
}

#[test]
fn the_weights_of_a_checkpoint_describe_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    run(&config, folder.path(), 2).unwrap();
    let run = RunFolder::open(folder.path()).unwrap();
    let checkpoint = run.latest().unwrap().unwrap();
    let model = checkpoint.average(&run.config().unwrap(), Some(0.99)).unwrap();
    assert_eq!((model.manifest.provenance.step, model.manifest.provenance.ema_decay), (2, Some(0.99)));
    assert_eq!((model.manifest.classes.len(), model.manifest.provenance.weights_sha256.len()), (10, 64));
    model.generator().unwrap();
    assert!(checkpoint.average(&config, Some(0.5)).unwrap_err().to_string().contains("it has [0.9, 0.99]"));
    assert!(RunFolder::open(&folder.path().join("samples")).is_err());
}
