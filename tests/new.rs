//! `drifting new`: a configuration for images that somebody has, which trains.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::fs;
use std::path::Path;

use common::Workspace;

/// Class folders with `count` pictures of 24 x 20 each.
fn folders(folder: &Path, classes: &[&str], count: u32) {
    for (number, class) in classes.iter().enumerate() {
        fs::create_dir_all(folder.join(class)).unwrap();
        for image in 0..count {
            let level = |x: u32, y: u32| [x * 10, y * 12, image * 5 + number as u32 * 40].map(|value| value as u8);
            let picture = image::RgbImage::from_fn(24, 20, |x, y| image::Rgb(level(x, y)));
            picture.save(folder.join(class).join(format!("{image:04}.png"))).unwrap();
        }
    }
}

/// Trains two steps of a few images.
fn trains(workspace: &Workspace, file: &str, out: &str) {
    let few = ["batch.generated=2", "batch.positives=3", "generator.depth=1", "output.samples_every=0"];
    let set: Vec<&str> = few.iter().flat_map(|set| ["--set", set]).collect();
    workspace.succeed(&[&["train", file, "--steps", "2", "--out", out][..], &set].concat());
    assert!(workspace.path(out).join("latest").exists());
}

#[test]
fn class_folders_get_a_configuration_that_trains() {
    let workspace = Workspace::new();
    folders(&workspace.path("My pets"), &["cat", "dog"], 4);
    fs::write(workspace.path("My pets/dog/0001.png"), "no picture").unwrap();
    let said = workspace.succeed(&["new", "My pets"]);
    assert!(said.contains("wrote my-pets.toml") && said.contains("2 classes (cat, dog)"), "{said}");
    assert!(said.contains("32 x 32 pixels in colour") && said.contains("drifting train my-pets.toml"), "{said}");
    let text = fs::read_to_string(workspace.path("my-pets.toml")).unwrap();
    assert!(text.contains("path = \"My pets\", on_bad = \"skip\"") && text.contains("patch = 4\n"), "{text}");
    assert!(text.contains("\"patch_8\", \"mean_4\", \"mean_16\", \"std_8\""), "{text}");
    let plan = workspace.succeed(&["train", "my-pets.toml", "--dry-run"]);
    assert!(plan.contains("3x32x32 images of 2 classes"), "{plan}");
    trains(&workspace, "my-pets.toml", "pets");

    let refused = workspace.fail(&["new", "My pets"]);
    assert!(refused.contains("my-pets.toml is there already: --force replaces it"), "{refused}");
    assert_eq!(fs::read_to_string(workspace.path("my-pets.toml")).unwrap(), text);
    workspace.succeed(&["new", "My pets", "--force", "--size", "20"]);
    let text = fs::read_to_string(workspace.path("my-pets.toml")).unwrap();
    assert!(text.contains("height = 20, width = 20") && text.contains("# 25 squares"), "{text}");
}

#[test]
fn an_encoder_comes_first_where_it_is_asked_for() {
    let workspace = Workspace::new();
    folders(&workspace.path("pets"), &["cat", "dog"], 3);
    let said = workspace.succeed(&["new", "pets", "--encoder", "--out", "new.toml"]);
    let order = ["drifting train pets-encoder.toml", "drifting train new.toml", "drifting sample runs/pets"];
    let places: Vec<usize> = order.iter().map(|line| said.find(line).unwrap()).collect();
    assert!(places.is_sorted(), "{said}");
    let set = ["steps=2", "finetune.steps=1", "batch.images=2", "evaluation.every=2"];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    workspace.succeed(&[&["train", "pets-encoder.toml"][..], &set].concat());
    trains(&workspace, "new.toml", "pets-run");
}

#[test]
fn every_source_gets_what_fits_it() {
    let workspace = Workspace::new();
    let said = workspace.succeed(&["new", "fashion-mnist"]);
    assert!(said.contains("5000 images of 10 classes") && said.contains("28 x 28 pixels in grey"), "{said}");
    let text = fs::read_to_string(workspace.path("fashion-mnist.toml")).unwrap();
    assert!(text.contains("data = { embedded = \"fashion-mnist\" }") && !text.contains("crop"), "{text}");
    trains(&workspace, "fashion-mnist.toml", "fashion");
    // Images of one size that is not the network's are cropped.
    workspace.succeed(&["new", "fashion-mnist", "--size", "16", "--out", "small.toml"]);
    assert!(fs::read_to_string(workspace.path("small.toml")).unwrap().contains("crop = \"adm\""));
    trains(&workspace, "small.toml", "small");

    // One class has nothing to be guided from.
    folders(&workspace.path("one"), &["thing"], 3);
    let said = workspace.succeed(&["new", "one", "--encoder"]);
    assert!(said.contains("3 images of 1 class (thing)"), "{said}");
    let text = fs::read_to_string(workspace.path("one.toml")).unwrap();
    assert!(text.contains("unconditional = 0") && text.contains("grid_alphas = [1.0]"), "{text}");
    let encoder = fs::read_to_string(workspace.path("one-encoder.toml")).unwrap();
    assert!(encoder.contains("steps = 0\n"), "{encoder}");
    workspace.succeed(&["new", "one", "--force"]);
    trains(&workspace, "one.toml", "one-run");
    folders(&workspace.path("flat"), &[""], 3);
    let said = workspace.succeed(&["new", "flat"]);
    assert!(said.contains("3 images of 1 class (images)"), "{said}");
    trains(&workspace, "flat.toml", "flat-run");
}

#[test]
fn what_cannot_be_is_said() {
    let workspace = Workspace::new();
    let message = workspace.fail(&["new", "nowhere"]);
    assert!(message.contains("nowhere: is not there"), "{message}");
    let message = workspace.fail(&["new", "fashion-mnist", "--size", "30"]);
    assert!(message.contains("--size 30: wants a multiple of 4 from 8 to 128"), "{message}");
    assert!(!workspace.path("fashion-mnist.toml").exists());
}
