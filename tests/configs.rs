//! Every file in configs/: it loads, prints its plan, and trains two steps when it is shrunk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod common;

use std::path::{Path, PathBuf};

use common::Workspace;
use drifting_train::config::{ExperimentConfig, TrainConfig};

/// Images of a shrunk data set, of three classes.
const IMAGES: usize = 24;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

/// All experiment files by their path in configs/; the settings of `drifting ablate` have a key `base`.
fn experiments() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") && !path.ends_with("serve.toml") {
                let text = std::fs::read_to_string(&path).unwrap();
                if !text.lines().any(|line| line.starts_with("base = ")) {
                    found.push((path.strip_prefix(folder()).unwrap().display().to_string(), text));
                }
            }
        }
    }
    found.sort();
    assert!(found.len() > 15, "{found:?}");
    found
}

#[test]
fn every_configuration_prints_its_plan_without_data_and_weights() {
    let workspace = Workspace::new();
    for (name, text) in experiments() {
        let plan = workspace.succeed(&["train", folder().join(&name).to_str().unwrap(), "--dry-run"]);
        for expected in ["parameters", "a step: ", "memory: "] {
            assert!(plan.contains(expected), "{name}: {plan}");
        }
        assert_eq!(plan.contains("missing: data: "), text.contains("path = \"data/"), "{name}: {plan}");
        assert_eq!(plan.contains("missing: encoder: "), text.contains("encoder ="), "{name}: {plan}");
    }
    assert!(std::fs::read_dir(workspace.path(".")).unwrap().next().is_none(), "a dry run writes nothing");
}

/// The number after `key = ` in the text of a configuration.
fn number(text: &str, key: &str) -> usize {
    let (_, rest) = text.split_once(&format!("{key} = ")).unwrap();
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// Side of the images of so many channels: the keys of the grey ones want 28.
fn side(channels: usize) -> usize {
    if channels == 1 { 28 } else { 8 }
}

/// Writes images and their mirror images of so many channels as a shard.
fn write_shard(folder: &Path, channels: usize) {
    let side = side(channels);
    let bytes = IMAGES * channels * side * side * 4;
    let rows = |from: usize| {
        format!(
            "{{\"dtype\":\"F32\",\"shape\":[{IMAGES},{channels},{side},{side}],\"data_offsets\":[{from},{}]}}",
            from + bytes
        )
    };
    let labels =
        format!("{{\"dtype\":\"U8\",\"shape\":[{IMAGES}],\"data_offsets\":[{},{}]}}", 2 * bytes, 2 * bytes + IMAGES);
    let header = format!("{{\"latents\":{},\"mirrored\":{},\"labels\":{labels}}}", rows(0), rows(bytes));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    for index in 0..2 * bytes / 4 {
        file.extend((((index * 37) % 101) as f32 / 50.0 - 1.0).to_le_bytes());
    }
    file.extend((0..IMAGES).map(|image| (image % 3) as u8));
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("shard.safetensors"), file).unwrap();
}

/// The text between quotes behind `key = `.
fn quoted<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(&format!("{key} = \""))?.1.split_once('"').map(|(value, _)| value)
}

/// Where the shrunk encoder lies that a configuration trains, or drifts in the features of.
fn encoder(text: &str) -> String {
    let name = quoted(text, "{ mae").or_else(|| quoted(text, "\nname")).unwrap();
    let stem = Path::new(name).file_stem().unwrap().to_str().unwrap();
    format!("encoder-{}", stem.replace('_', "-"))
}

/// The settings that make a configuration small.
fn shrunk(text: &str) -> Vec<String> {
    if text.contains("[toy]") {
        let sizes = ["generated=16", "positives=16", "evaluated=32", "network={noise=2, hidden=8, depth=1}"];
        return sizes.iter().map(|size| format!("toy.{size}")).collect();
    }
    let channels = number(text, "channels");
    let side = side(channels);
    let image = format!("{{channels={channels}, height={side}, width={side}}}");
    let mut settings = vec![format!("data={{path='data-{channels}', kind='shards'}}"), "augment.crop=fit".to_owned()];
    let mut set = |section: &str, values: &[&str]| {
        settings.extend(values.iter().map(|value| format!("{section}.{value}")));
    };
    if text.contains("[mae]") {
        set("mae", &[&format!("image={image}"), "base_channels=4", "blocks=[2,2,2,2]", "classes=3"]);
        set("mae", &[&format!("input_patch={}", if side == 28 { number(text, "input_patch") } else { 1 })]);
        set("batch", &["images=4", "images_at_once=2"]);
        set("finetune", &["steps=1"]);
        return settings;
    }
    set("generator", &[&format!("image={image}"), &format!("patch={}", side / 2), "hidden=16", "depth=1", "heads=2"]);
    set("generator", &["classes=3", "style_tokens=2", "registers=1"]);
    set("batch", &["classes=2", "generated=3", "positives=4", "unconditional=2"]);
    set("sampling", &["grid_classes=2", "grid_images=1", "decoder="]);
    if text.contains("[start]") {
        set("start", &["model=run-fashion-pixels.toml"]);
    }
    if text.contains("[queue]") {
        set("queue", &["per_class=8", "global=8", "push_per_step=8", "loader_batch=8", "warm_up={per_class=4}"]);
    }
    if text.contains("encoder =") {
        set("features", &[&format!("encoder={{mae='{}'}}", encoder(text)), "convnext="]);
    }
    settings
}

#[test]
fn every_configuration_trains_two_steps_when_shrunk() {
    let workspace = Workspace::new();
    let (encoders, others): (Vec<_>, Vec<_>) = experiments().into_iter().partition(|(_, text)| text.contains("[mae]"));
    for (name, text) in encoders.iter().chain(&others) {
        let path = folder().join(name).display().to_string();
        let mut out = format!("run-{}", name.replace('/', "-"));
        if !text.contains("[toy]") {
            let channels = number(text, "channels");
            write_shard(&workspace.path(&format!("data-{channels}")), channels);
            if text.contains("[mae]") {
                out = encoder(text);
            }
        }
        let settings = shrunk(text);
        let mut args = vec!["train", &path, "--steps", "2", "--out", &out];
        settings.iter().for_each(|setting| args.extend(["--set", setting]));
        workspace.succeed(&args);
        let last = match text.contains("ablations = [") {
            true => format!("{out}/attraction_only/latest"),
            false => format!("{out}/latest"),
        };
        assert_eq!(std::fs::read_to_string(workspace.path(&last)).unwrap(), "step_000002\n", "{name}");
    }
}

fn table8(name: &str) -> TrainConfig {
    match ExperimentConfig::load(&folder().join(format!("table8/{name}.toml")), &[]).unwrap() {
        ExperimentConfig::Generator(config) => *config,
        other => panic!("{other:?}"),
    }
}

/// Method section 12: the paper's Table 8 as the authors' configurations have it.
#[test]
fn table_8_is_in_its_configurations() {
    // [hidden, depth, heads, patch], [classes, positives, unconditional, warm-up, steps], rate, decay, exponent, at 1
    let rows = [
        ("ablation", [768, 12, 12, 2], [64, 64, 16, 5_000, 30_000], 2e-4, 0.01, 3.0, 0.0),
        ("latent-b2", [768, 12, 12, 2], [128, 64, 32, 10_000, 200_000], 4e-4, 0.0, 5.0, 0.0),
        ("latent-l2", [1024, 24, 16, 2], [128, 64, 32, 10_000, 200_000], 4e-4, 0.01, 3.0, 0.5),
        ("pixel-b16", [768, 12, 12, 16], [128, 128, 32, 10_000, 100_000], 2e-4, 0.01, 5.0, 0.0),
        ("pixel-l16", [1024, 24, 16, 16], [128, 128, 32, 10_000, 100_000], 4e-4, 0.01, 5.0, 0.0),
    ];
    for (name, network, [classes, positives, unconditional, warm_up, steps], lr, decay, exponent, at_one) in rows {
        let config = table8(name);
        let found = &config.generator;
        assert_eq!([found.hidden, found.depth, found.heads, found.patch], network, "{name}");
        assert_eq!((found.registers, found.style_tokens, found.style_codes, found.classes), (16, 32, 64, 1000));
        let batch = config.batch;
        let sizes = [batch.classes, batch.positives, batch.unconditional];
        assert_eq!((sizes, batch.generated), ([classes, positives, unconditional], 64), "{name}");
        assert_eq!((config.schedule.warmup_steps, config.steps), (warm_up as u64, steps as u64), "{name}");
        let adamw = config.optimizer.adamw;
        assert_eq!(
            (config.schedule.lr, adamw.weight_decay, adamw.beta1, adamw.beta2),
            (lr, decay, 0.9, 0.95),
            "{name}"
        );
        assert_eq!((config.optimizer.clip, config.ema.decays[0]), (2.0, 0.999), "{name}");
        let alpha = config.alpha;
        assert_eq!(
            (alpha.min, alpha.max, alpha.exponent, alpha.no_cfg_fraction),
            (1.0, 4.0, exponent, at_one),
            "{name}"
        );
        let queue = config.queue.unwrap();
        assert_eq!((queue.per_class, queue.global), (128, 1000), "{name}");
        let mut temperatures = config.drift.temperatures;
        temperatures.sort_by(f32::total_cmp);
        assert_eq!(temperatures, [0.02, 0.05, 0.2], "{name}");
        assert_eq!(config.features.keys, ["all"], "{name}");
    }
}

/// The law of L/2: alpha = 1 half of the time, else the power law of exponent 3.
#[test]
fn the_mixture_of_the_large_latent_model_can_be_said() {
    let law = table8("latent-l2").alpha;
    let mut stream = drifting_spec::Stream::new(1, "alpha", 0);
    let mut alphas: Vec<f32> = (0..40_000).map(|_| law.draw(&mut stream)).collect();
    alphas.sort_by(f32::total_cmp);
    // Of the upper half, a quarter, a half and three quarters lie below these (method section 5).
    for (share, expected) in [(0.25, 1.0), (0.625, 1.142_857), (0.75, 1.371_989), (0.875, 1.835_326)] {
        let found = alphas[(share * 40_000.0) as usize];
        assert!((found - expected).abs() < 0.03, "{share}: {found}");
    }
}
