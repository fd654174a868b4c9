//! Streamed class groups: peak memory does not depend on their number.

use std::collections::BTreeMap;
use std::process::Command;

use candle_core::Device;
use drifting_models::{Generator, Mae, nn};
use drifting_spec::{GeneratorConfig, Inputs, MaeConfig, Stream};
use drifting_train::drift::{DriftSettings, guidance_weight};
use drifting_train::features::{FeatureSpace, MaeEncoder};
use drifting_train::ranks::Alone;
use drifting_train::trainer::{GroupSizes, RealImages, StepObjective, Timings};

use crate::support::LATENT;

const SIZES: GroupSizes = GroupSizes { generated: 8, positives: 8, unconditional: 4 };
const CLASSES: &str = "TEST_CLASSES";
const AT_ONCE: &str = "TEST_GROUPS_AT_ONCE";
const PEAK: &str = "peak of the step in kB:";

/// Takes one step and prints its peak memory; a process of its own, since a peak never falls.
#[test]
#[ignore = "run by the test below"]
fn child() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<usize>().unwrap();
    let (classes, groups_at_once) = (number(CLASSES), number(AT_ONCE));
    let config = GeneratorConfig { registers: 4, ..GeneratorConfig::new(LATENT, 2, 96, 2, 3, 16) };
    let generator = Generator::new(config, nn::Source::Seed(1), &Device::Cpu).unwrap();
    let config = MaeConfig { blocks: [1, 2, 2, 1], ..MaeConfig::new(LATENT, 1, 32, 16) };
    let mae = Mae::frozen(config, nn::Source::Seed(2), &Device::Cpu).unwrap();
    let space = FeatureSpace::new(LATENT, vec![Box::new(MaeEncoder::new(mae))], &["all".to_owned()]).unwrap();
    let conditions: Vec<_> = (0..classes).flat_map(|class| [(class, 1.5); SIZES.generated]).collect();
    let images = |name, count: usize| Stream::new(4, name, 0).normals(classes * count * LATENT.len());
    let objective = StepObjective {
        generator: &generator,
        space: &space,
        settings: &DriftSettings::default(),
        sizes: SIZES,
        inputs: &Inputs::seeded(generator.config(), 5, &conditions),
        real: RealImages {
            positives: &images("positives", SIZES.positives),
            unconditional: &images("unconditional", SIZES.unconditional),
        },
        weights: &vec![guidance_weight(1.5, SIZES.generated, SIZES.unconditional); classes],
        past: &BTreeMap::new(),
        ranks: &Alone,
        groups: classes,
    };
    let found = objective.evaluate(groups_at_once, &mut Timings::default()).unwrap();
    assert!(found.loss.is_finite());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("{PEAK}{}", peak.trim().trim_end_matches("kB"));
}

/// Peak memory of a step in kB.
fn peak(classes: usize, groups_at_once: usize) -> f64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CLASSES, classes.to_string())
        .env(AT_ONCE, groups_at_once.to_string())
        // One arena, tensors straight from the system, one thread: the peak is that of the step, not of the allocator's
        // habits or of what threads happen to hold at the same time.
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .env("RAYON_NUM_THREADS", "1")
        .env("CANDLE_NUM_THREADS", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, peak) = text.split_once(PEAK).unwrap_or_else(|| panic!("{text}"));
    peak.lines().next().unwrap().trim().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn peak_memory_does_not_grow_with_the_classes() {
    let (few, many, at_once) = (peak(4, 1), peak(16, 1), peak(16, 0));
    println!("peak memory: 4 classes {few} kB, 16 classes {many} kB, 16 classes at once {at_once} kB");
    assert!(many < 1.1 * few, "{few} kB for 4 classes, {many} kB for 16");
    assert!(at_once > 2.0 * many, "all at once needs {at_once} kB, streamed {many} kB");
}
