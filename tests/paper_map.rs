//! docs/paper-to-code.md says nothing that is not there, and leaves nothing of the paper out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders with tests.
const CODE: [&str; 6] = ["src", "models", "train", "export", "serve", "tests"];

/// Rows of Table 8.
const TABLE_8: [&str; 35] = [
    "arch",
    "input size",
    "patch size",
    "hidden dim",
    "depth",
    "register tokens",
    "style embedding tokens",
    "encoder arch",
    "SSL pre-train method",
    "ResNet input size",
    "ResNet conv stride",
    "ResNet base width",
    "ResNet block type",
    "ResNet blocks / stage",
    "ResNet size / stage",
    "MAE masking ratio",
    "MAE pre-train epochs",
    "classification finetune",
    "optimizer",
    "learning rate",
    "weight decay",
    "warmup steps",
    "gradient clip",
    "training steps",
    "training epochs",
    "EMA decay",
    "class labels",
    "positive samples",
    "generated samples",
    "effective batch",
    "temperatures",
    "CFG alpha range",
    "CFG alpha sampling",
    "uncond samples",
    "inference CFG alpha search",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The rows of all tables: paper, what, file, item, shown by.
fn rows() -> Vec<[String; 5]> {
    let text = std::fs::read_to_string(root().join("docs/paper-to-code.md")).unwrap();
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect() };
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| paper |"));
    rows.map(|line| cells(line).try_into().unwrap_or_else(|cells| panic!("{line}: {cells:?}"))).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether `name` stands in `text` as a word of its own.
fn has_word(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(start, _)| {
        let end = start + name.len();
        !text[..start].ends_with(part) && !text[end..].starts_with(part)
    })
}

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders: Vec<PathBuf> = CODE.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for (_, after) in text.split("#[test]").skip(1).filter_map(|after| after.split_once("fn ")) {
                    names.insert(after.split('(').next().unwrap_or_default().to_owned());
                }
            }
        }
    }
    names
}

#[test]
fn every_file_item_and_test_of_the_map_exists() {
    let tests = tests();
    for [paper, _, file, items, shown] in rows() {
        if file.starts_with("none: ") {
            assert!(items.is_empty() && shown.is_empty(), "{paper}");
            continue;
        }
        let files = quoted(&file);
        let [file] = files[..] else { panic!("{paper}: one file, not {file}") };
        let text =
            std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{paper}: {file}: {error}"));
        let (items, shown) = (quoted(&items), quoted(&shown));
        assert!(!items.is_empty() && !shown.is_empty(), "{paper}: names no item or no test");
        for item in items {
            assert!(has_word(&text, item), "{paper}: {file} holds no {item}");
        }
        for test in shown {
            assert!(tests.contains(test), "{paper}: there is no test {test}");
        }
    }
}

#[test]
fn nothing_of_the_paper_is_left_out() {
    let found: BTreeSet<String> = rows().into_iter().map(|[paper, ..]| paper).collect();
    let equations = (1..=26).map(|number| format!("eq. {number}"));
    let algorithms = (1..=2).map(|number| format!("Algorithm {number}"));
    let appendices = (1..=9).map(|number| format!("A.{number}")).chain((1..=5).map(|number| format!("B.{number}")));
    let appendices = appendices.chain((1..=2).map(|number| format!("C.{number}")));
    let table = TABLE_8.iter().map(|row| format!("Table 8: {row}"));
    for wanted in equations.chain(algorithms).chain(appendices).chain(table) {
        assert!(found.contains(&wanted), "{wanted} is missing");
    }
}
