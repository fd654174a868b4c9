//! Networks of latents: encoded beforehand or as they are drawn, measured on held-out images, shown through a decoder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::Workspace;

fn vae() -> String {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from);
    golden.join("vae").to_str().unwrap().to_owned()
}

/// Training and test pictures of two classes, and the latents of both; the encoder's settings in `encoder.toml`.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    for (part, count) in [("train", 12u32), ("test", 3)] {
        for (class, shade) in [("cat", 0), ("dog", 90)] {
            let folder = workspace.path(part).join(class);
            fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let level = |x: u32, y: u32| [x * 10, y * 12, shade + number * 7].map(|value| value as u8);
                let picture = image::RgbImage::from_fn(24, 20, |x, y| image::Rgb(level(x, y)));
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
        let out = format!("{part}-latents");
        workspace.succeed(&["data", "latents", part, "--vae", &vae(), "--size", "16", "--out", &out]);
    }
    fs::write(workspace.path("encoder.toml"), ENCODER).unwrap();
    workspace
}

const ENCODER: &str = r#"
name = "encoder"
steps = 4
data = { path = "train-latents", test_path = "test-latents" }
augment = { flip = true }
batch = { images = 6 }
schedule = { lr = 1e-3 }
ema = { decays = [0.9] }
evaluation = { every = 2, images = 4 }
output = { checkpoint_every = 2, samples_every = 0, metrics_every = 1 }

[mae]
image = { channels = 4, height = 8, width = 8 }
base_channels = 8
blocks = [1, 1, 1, 1]
classes = 2
"#;

/// The number of held-out images that each measurement of a run was taken on.
fn measured(workspace: &Workspace, run: &str) -> Vec<u64> {
    let text = fs::read_to_string(workspace.path(run).join("evaluation.jsonl")).unwrap();
    let images = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["images"].as_u64().unwrap();
    text.lines().map(images).collect()
}

#[test]
fn an_encoder_of_latents_is_measured_on_images_that_it_never_sees() {
    let workspace = workspace();
    workspace.succeed(&["train", "encoder.toml", "--out", "stored"]);
    assert_eq!(measured(&workspace, "stored"), [4, 4]);
    let split = ["--set", "data={path='train-latents'}", "--set", "evaluation.hold_out=4"];
    workspace.succeed(&[&["train", "encoder.toml", "--out", "split"][..], &split].concat());
    // Three of twelve images of each class, of which four are measured on.
    assert_eq!(measured(&workspace, "split"), [4, 4]);
    let message = workspace
        .fail(&[&["train", "encoder.toml", "--out", "x"][..], &split[..3], &["evaluation.hold_out=13"]].concat());
    assert!(message.contains("evaluation.hold_out: 13 is more than the 12 images of class cat"), "{message}");
}

#[test]
fn an_encoder_can_see_latents_of_random_crops() {
    let workspace = workspace();
    let autoencoder = format!("autoencoder={}", vae());
    let encoded =
        ["--set", &autoencoder, "--set", "data={path='train', test_path='test'}", "--set", "augment.crop=random"];
    let train = |more: &[&str]| workspace.run(&[&["train", "encoder.toml"][..], &encoded, more].concat());
    let plan = common::text(&train(&["--dry-run"]).stdout);
    assert!(plan.contains("epochs of 24") && !plan.contains("missing"), "{plan}");
    assert!(train(&["--out", "straight"]).status.success());
    assert_eq!(measured(&workspace, "straight"), [4, 4]);
    let run: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(workspace.path("straight/run.json")).unwrap()).unwrap();
    assert_eq!(run["weights"].as_object().unwrap().len(), 1, "the autoencoder's checksum: {run}");
    // A resumed run encodes the same crops with the same noise.
    assert!(train(&["--out", "resumed", "--steps", "2"]).status.success());
    assert!(train(&["--out", "resumed"]).status.success());
    let last = |run: &str| common::files(&workspace.path(run).join("checkpoints/step_000004"));
    assert!(last("straight") == last("resumed"), "other bytes");
    let wrong = train(&["--out", "x", "--set", "mae.image={channels=3, height=8, width=8}"]);
    assert!(common::text(&wrong.stderr).contains("a latent of 3 channels, expected 4"), "{wrong:?}");
}

#[test]
fn generated_latents_are_shown_through_a_decoder() {
    let workspace = workspace();
    workspace.succeed(&["train", "encoder.toml", "--out", "encoder"]);
    workspace.tiny_config();
    let settings = [
        "data={path='train-latents'}",
        "generator.image={channels=4, height=8, width=8}",
        "generator.patch=2",
        "generator.classes=2",
        "batch.classes=2",
        "features={keys=['all'], encoder={mae='encoder'}}",
        "queue={per_class=4, global=8, push_per_step=8, loader_batch=8}",
        "sampling.grid_classes=2",
    ];
    let mut train = vec!["train", "tiny.toml", "--steps", "3"];
    settings.iter().for_each(|setting| train.extend(["--set", setting]));
    workspace.succeed(&[&train[..], &["--out", "blind"]].concat());
    assert!(fs::read_dir(workspace.path("blind/samples")).unwrap().next().is_none());
    let message = workspace.fail(&["sample", "blind"]);
    assert!(message.contains("makes latents of 4 channels: --decoder names the autoencoder"), "{message}");

    let decoder = format!("sampling.decoder={}", vae());
    workspace.succeed(&[&train[..], &["--set", &decoder, "--out", "run"]].concat());
    let grid = image::open(workspace.path("run/samples/step_000003.png")).unwrap();
    // Twelve columns of 16 pixels, two apart, enlarged five times; two rows.
    assert_eq!((grid.width(), grid.height()), (214 * 5, 34 * 5));
    let pictures = |args: &[&str]| {
        workspace.succeed(&[&["sample"], args, &["-n", "2", "--out", "sheet.png"]].concat());
        fs::read(workspace.path("sheet.png")).unwrap()
    };
    assert_eq!(pictures(&["run"]), pictures(&["blind", "--decoder", &vae()]));
    let sheet = image::open(workspace.path("sheet.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (34, 34));
}

#[test]
fn stored_latents_and_test_images_can_be_looked_at() {
    let workspace = workspace();
    let found = workspace.succeed(&[
        "data",
        "inspect",
        "train-latents",
        "--sheet",
        "sheet.png",
        "--vae",
        &vae(),
        "--columns",
        "3",
    ]);
    assert!(found.contains("latents, 24 of 4 x 8 x 8") && found.contains("12  dog"), "{found}");
    let sheet = image::open(workspace.path("sheet.png")).unwrap().to_rgb8();
    // Two rows of three pictures of 16 pixels, two apart, enlarged 23 times.
    assert_eq!((sheet.width(), sheet.height()), (52 * 23, 34 * 23));
    let message = workspace.fail(&["data", "inspect", "train-latents", "--sheet", "other.png"]);
    assert!(message.contains("latents are no pictures: --vae names the autoencoder"), "{message}");
    let found = workspace.succeed(&["data", "inspect", "fashion-mnist", "--test"]);
    assert!(found.contains("1000 images of 10 classes"), "{found}");
    let message = workspace.fail(&["data", "inspect", "train", "--test"]);
    assert!(message.contains("train has no test images beside the training images"), "{message}");
}
