//! `drifting data`: what is there, and latents that survive a kill.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Workspace, files, text};

/// Class folders with `count` pictures of 24 x 20 each.
fn folders(folder: &Path, count: u32) {
    for (number, class) in ["cat", "dog"].into_iter().enumerate() {
        fs::create_dir_all(folder.join(class)).unwrap();
        for image in 0..count {
            let level = |x: u32, y: u32| [x * 10, y * 12, image * 5 + number as u32 * 40].map(|value| value as u8);
            let picture = image::RgbImage::from_fn(24, 20, |x, y| image::Rgb(level(x, y)));
            picture.save(folder.join(class).join(format!("{image:04}.png"))).unwrap();
        }
    }
}

fn vae() -> String {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let golden = std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from);
    golden.join("vae").to_str().unwrap().to_owned()
}

#[test]
fn a_source_is_described_and_shown() {
    let workspace = Workspace::new();
    let found = workspace.succeed(&["data", "inspect", "fashion-mnist", "--sheet", "sheet.png"]);
    assert!(found.contains("5000 images of 10 classes") && found.contains("500  Trouser"), "{found}");
    assert!(found.contains("pictures, 5000 of 1 x 28 x 28") && found.contains("(0 to 1)  0.28"), "{found}");
    let sheet = image::open(workspace.path("sheet.png")).unwrap();
    // Ten rows of ten tiles, two pixels apart, enlarged four times.
    assert_eq!((sheet.width(), sheet.height()), (298 * 4, 298 * 4));

    folders(&workspace.path("images"), 3);
    fs::write(workspace.path("images/dog/0001.png"), "no picture").unwrap();
    let output = workspace.run(&["data", "inspect", "images"]);
    let found = text(&output.stdout);
    assert!(found.contains("5 of 3 x 20 x 24") && found.contains("damaged  images/dog/0001.png: "), "{found}");
    assert!(text(&output.stderr).contains("1 images cannot be read"));
    let message = workspace.fail(&["data", "inspect", "nowhere"]);
    assert!(message.contains("nowhere: is not there"), "{message}");
}

#[test]
fn latents_that_were_killed_end_with_the_bytes_of_the_straight_run() {
    let workspace = Workspace::new();
    folders(&workspace.path("images"), 60);
    let vae = vae();
    let mut args = vec!["data", "latents", "images", "--vae", &vae, "--size", "16", "--batch", "2", "--shard", "9"];
    let plan = workspace.succeed(&[&args[..], &["--out", "none", "--dry-run"]].concat());
    assert!(plan.contains("120 images and their mirror images -> 4 x 8 x 8 f32"), "{plan}");
    assert!(plan.contains("in 14 shards") && !workspace.path("none").exists(), "{plan}");
    workspace.succeed(&[&args[..], &["--out", "straight"]].concat());
    let expected = files(&workspace.path("straight"));
    assert_eq!(expected.len(), 15);

    args.extend(["--out", "killed"]);
    let mut interrupted = 0;
    for shards in [0, 2, 5] {
        let mut child = workspace.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let last = workspace.path("killed").join(format!("shard-{shards:05}.safetensors"));
        let started = Instant::now();
        while !last.exists() && started.elapsed() < Duration::from_secs(120) {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        interrupted += u32::from(!workspace.path("killed/manifest.json").exists());
    }
    assert!(interrupted > 0, "it was over before it was killed");
    workspace.succeed(&args);
    assert_eq!(files(&workspace.path("killed")), expected);

    let other = [&args[..], &["--seed", "7"]].concat();
    let message = workspace.fail(&other);
    assert!(message.contains("was written with seed 42, now it is 7"), "{message}");
    let message = workspace.fail(&["data", "latents", "images", "--vae", "images", "--out", "x"]);
    assert!(message.contains("images: holds no autoencoder"), "{message}");
}
