//! What a plan says of memory is what a step takes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use drifting_models::{Mae, nn};
use drifting_train::config::{ExperimentConfig, MaeTrainConfig, Override, Plan, TrainConfig};
use drifting_train::data::{Dataset, DirectFeed};
use drifting_train::features::{FeatureSpace, MaeEncoder};
use drifting_train::trainer::Trainer;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes of the plan that a step may take less or more, as a share.
const APART: f64 = 0.12;

/// The paper's latent ablation, made smaller.
fn config(encoder: &Path, changes: &[&str]) -> TrainConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/table8/ablation.toml");
    let encoder = format!("features.encoder.mae={encoder:?}");
    let smaller = [
        "generator.hidden=192",
        "generator.depth=4",
        "generator.heads=3",
        "generator.classes=10",
        "batch.classes=2",
        "batch.generated=8",
        "batch.positives=8",
        "batch.unconditional=4",
        "batch.groups_at_once=0",
        "queue=",
        &encoder,
    ];
    let set: Vec<Override> = smaller.iter().chain(changes).map(|change| change.parse().unwrap()).collect();
    TrainConfig::load(&path, &set).unwrap()
}

/// The settings of an encoder, in a run folder as its training leaves them.
fn encoder(folder: &Path) -> MaeTrainConfig {
    let text = "name = \"encoder\"\nsteps = 1\ndata = { path = \"absent\" }\nschedule = { lr = 1e-3 }\nbatch = { images = 8 }\n\
                [mae]\nimage = { channels = 4, height = 32, width = 32 }\ninput_patch = 1\nbase_channels = 32\n\
                blocks = [2, 2, 2, 2]\nclasses = 10\nnorm_groups = 8\n";
    std::fs::write(folder.join("config.toml"), text).unwrap();
    match ExperimentConfig::load(&folder.join("config.toml"), &[]).unwrap() {
        ExperimentConfig::Mae(config) => *config,
        _ => panic!("it trains no encoder"),
    }
}

/// Bytes in use at most during the second step, and what the plan says.
fn measured_and_planned(changes: &[&str]) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let mae = encoder(folder.path()).mae;
    let config = config(folder.path(), changes);
    config.compute.apply();
    let plan = Plan::generator(&config, None).unwrap();
    let image = config.generator.image;
    let pixels = (0..40 * image.len()).map(|at| (at * 37 % 251) as u8).collect();
    let classes = (0..10).map(|class| class.to_string()).collect();
    let data = Dataset::new(image, pixels, (0..40).map(|image| image % 10).collect(), classes).unwrap();

    let before = ALLOCATOR.current_usage();
    let network = Mae::frozen(mae, nn::Source::Seed(1), &Device::Cpu).unwrap();
    let space = FeatureSpace::new(image, vec![Box::new(MaeEncoder::new(network))], &config.features.keys).unwrap();
    let feed = DirectFeed::new(Arc::new(data), 1);
    let mut trainer = Trainer::with_features(&config, Box::new(feed), space).unwrap();
    trainer.step().unwrap();
    ALLOCATOR.reset_peak_usage();
    trainer.step().unwrap();
    let measured = (ALLOCATOR.peak_usage() - before) as f64;
    (measured, plan.memory.host().iter().map(|(_, bytes)| bytes).sum())
}

// One test, since all of a program's threads share its memory.
#[test]
fn a_step_takes_the_memory_that_its_plan_says() {
    for changes in [
        &["compute.operations=\"fused\""][..],
        &["compute.operations=\"plain\""],
        &["compute.operations=\"plain\"", "compute.recompute=true"],
        &["compute.operations=\"plain\"", "batch.groups_at_once=1"],
    ] {
        let (measured, planned) = measured_and_planned(changes);
        println!("{changes:?}: {:.1} MB, planned {:.1} MB: {:.3}", measured / 1e6, planned / 1e6, measured / planned);
        assert!((measured / planned - 1.0).abs() < APART, "{changes:?}: {measured} bytes, {planned} planned");
    }
}
