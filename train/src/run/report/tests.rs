use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::run::encode_png;
use drifting_spec::ImageShape;

const HOSTILE: &str = "<script>alert(1)</script>\"><img src=x onerror='alert(2)'>";

fn picture(level: u8) -> Vec<u8> {
    encode_png(ImageShape { channels: 1, height: 2, width: 2 }, vec![level; 4], 2).unwrap()
}

/// A run folder with text of `name` wherever a file has text.
fn run(parent: &Path, folder: &str, name: &str, lr: f64) -> PathBuf {
    let path = parent.join(folder);
    fs::create_dir_all(path.join("samples")).unwrap();
    let write = |file: &str, text: String| fs::write(path.join(file), text).unwrap();
    let settings = toml::Table::from_iter([
        ("name".to_owned(), name.into()),
        ("steps".to_owned(), 20.into()),
        ("lr".to_owned(), lr.into()),
        (name.to_owned(), name.into()),
    ]);
    write("config.toml", settings.to_string());
    let start = json!({
        "command": ["drifting", "train", name],
        "build": { "version": "0.1.0", "commit": name, "dirty": true, "rustc": name, "candle": name },
        "machine": { "cpu": name, "cores": 2, "os": name },
        "started": name, "from_step": 0, "to_step": 20, "outcome": name,
    });
    let record = json!({
        "kind": name, "name": name, "seed": 7, "parameters": 1234, "data_images": 50, "data_classes": [name],
        "data_sha256": name, "weights": { name: name }, "starts": [start],
    });
    write("run.json", record.to_string());
    let metrics: String =
        (1..=20).map(|step| format!("{}\n", json!({ "step": step, name: step, "loss": 1 }))).collect();
    write("metrics.jsonl", metrics);
    let eval =
        |alpha: f64| json!({ "alpha": alpha, "fid": 10.0 / alpha, name: name, "classes": [{ "name": name, "n": 1 }] });
    write("eval.json", json!([eval(1.0), eval(2.0)]).to_string());
    for (step, level) in [(10, 1), (20, 2)] {
        fs::write(path.join(format!("samples/step_{step:06}.png")), picture(level)).unwrap();
    }
    fs::write(path.join("neighbours.png"), picture(3)).unwrap();
    fs::write(path.join("ema_0.999.safetensors"), b"weights").unwrap();
    path
}

fn page(paths: &[PathBuf]) -> Result<String, RunError> {
    report(&paths.iter().map(|path| RunFolder::open(path).unwrap()).collect::<Vec<_>>())
}

#[test]
fn nothing_of_a_folder_becomes_markup() {
    let parent = tempfile::tempdir().unwrap();
    // A name of a folder cannot hold a slash.
    let folder = HOSTILE.replace('/', "-");
    let path = run(parent.path(), &folder, HOSTILE, 0.1);
    fs::rename(path.join("neighbours.png"), path.join(format!("{folder}.png"))).unwrap();
    fs::rename(path.join("eval.json"), path.join(format!("eval{folder}.json"))).unwrap();
    let page = page(&[path]).unwrap();
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;")
            && page.contains("&lt;script&gt;alert(1)&lt;-script&gt;")
    );
    for markup in ["<script", "<img src=x", "<-script"] {
        assert!(!page.contains(markup), "{markup}");
    }
    // Tags are those that the page is made of, and each quote of an attribute is ours.
    let tags: std::collections::BTreeSet<&str> =
        page.split('<').skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap()).collect();
    let known = [
        "",
        "body",
        "details",
        "div",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "h3",
        "head",
        "html",
        "img",
        "main",
        "meta",
        "p",
        "path",
        "polyline",
        "section",
        "style",
        "summary",
        "svg",
        "table",
        "tbody",
        "td",
        "text",
        "th",
        "thead",
        "title",
        "tr",
    ];
    assert!(tags.iter().all(|tag| known.contains(tag)), "{tags:?}");
    assert!(!page.contains("onerror='"));
}

#[test]
fn one_run_is_told_with_everything_that_it_has() {
    let parent = tempfile::tempdir().unwrap();
    let page = page(&[run(parent.path(), "first", "clothes", 0.1)]).unwrap();
    for expected in [
        "<title>first</title>",
        "fid by alpha",
        "eval.json, row 1: classes",
        "<figcaption>step_000020</figcaption>",
        "<figcaption>neighbours</figcaption>",
        // SHA-256 of the weight file's bytes.
        "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
        "1234",
        "2 cores",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    let place = |text: &str| page.find(text).unwrap();
    assert!(place("step_000020") < place("step_000010"), "the newest picture comes first");
    assert!(!page.contains("Those that differ"));
    // It needs nothing from elsewhere.
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http") && !elsewhere.contains("src=\"/") && !elsewhere.contains("url("));
    assert_eq!(page.matches("src=\"data:image/png;base64,iVBORw0KGgo").count(), 3);
}

#[test]
fn several_runs_stand_side_by_side() {
    let parent = tempfile::tempdir().unwrap();
    let runs = [run(parent.path(), "a/first", "clothes", 0.1), run(parent.path(), "b/first", "clothes", 0.2)];
    let both = page(&runs).unwrap();
    let differ = both.split("Those that differ").nth(1).unwrap().split("</table>").next().unwrap();
    assert!(differ.contains("0.1") && differ.contains("0.2") && !differ.contains("steps"), "{differ}");
    let measured = both.split("<summary>eval.json</summary>").nth(1).unwrap().split("</table>").next().unwrap();
    assert_eq!(measured.matches("<th scope=\"row\">").count(), 4, "two rows of each run");
    // Folders of the same name are told apart by their paths.
    assert!(both.contains("a/first") && both.contains("b/first"));
    let panel = both.split("aria-label=\"fid by alpha\"").nth(1).unwrap().split("</svg>").next().unwrap();
    assert_eq!(panel.matches("<polyline").count(), 2);
    let same = page(&[runs[0].clone(), run(parent.path(), "third", "clothes", 0.1)]).unwrap();
    assert!(same.contains("No setting differs."));
}

#[test]
fn files_that_are_not_what_they_should_be_are_named() {
    let parent = tempfile::tempdir().unwrap();
    let path = run(parent.path(), "first", "clothes", 0.1);
    fs::write(path.join("eval_more.json"), "{").unwrap();
    assert!(page(std::slice::from_ref(&path)).unwrap_err().to_string().contains("eval_more.json: "));
    fs::remove_file(path.join("eval_more.json")).unwrap();
    fs::write(path.join("samples/step_000030.png"), "<svg>").unwrap();
    let error = page(std::slice::from_ref(&path)).unwrap_err().to_string();
    assert!(error.contains("step_000030.png: is no PNG"), "{error}");
    fs::remove_dir_all(path.join("samples")).unwrap();
    fs::remove_file(path.join("run.json")).unwrap();
    assert!(page(&[path]).unwrap().contains("All settings"), "a run may be told before it has pictures");
    assert!(page(&[]).is_err());
}
