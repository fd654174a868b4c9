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

/// What a name goes on with.
const PART_OF_WORD: fn(char) -> bool = |c| c.is_alphanumeric() || c == '_';

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

/// Whether the file `file` with this text declares `name`: as a function, type, constant, field or variant of a Rust file,
/// or as a key of a configuration. A name that is only spoken of or used is not enough.
fn declares(file: &str, text: &str, name: &str) -> bool {
    let lines = text.lines().map(str::trim);
    if file.ends_with(".toml") {
        return lines.filter(|line| !line.starts_with('#')).any(|line| has_key(line, name));
    }
    lines.filter(|line| !line.starts_with("//")).any(|line| {
        let line = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or("", |(_, rest)| rest),
            Some(rest) => rest.trim_start(),
            None => line,
        };
        let line = line.strip_prefix("const fn").map_or_else(|| line.to_owned(), |rest| format!("fn{rest}"));
        let kinds = ["fn ", "struct ", "enum ", "trait ", "type ", "const ", "static "];
        let named = |rest: &str| rest.strip_prefix(name).is_some_and(|rest| !rest.starts_with(PART_OF_WORD));
        if kinds.iter().any(|kind| line.strip_prefix(kind).is_some_and(named)) {
            return true;
        }
        let after = line.strip_prefix(name);
        after.is_some_and(|rest| rest.is_empty() || [":", ",", "(", " {"].iter().any(|next| rest.starts_with(next)))
    })
}

/// Whether a line of TOML sets the key or opens the table `name`; `"section.name=value"` sets it for `drifting ablate`.
fn has_key(line: &str, name: &str) -> bool {
    let table = line.trim_matches(['[', ']']).rsplit('.').next();
    if line.starts_with('[') && table == Some(name) {
        return true;
    }
    line.match_indices(name).any(|(start, _)| {
        let before = line[..start].trim_end();
        let begins = before.is_empty() || before.ends_with(['{', ',', '.']);
        begins && line[start + name.len()..].trim_start().starts_with('=')
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
fn only_declarations_count() {
    let rust = "//! about gone\n/// gone: a word\npub(super) const fn step(x: gone) {\n    let gone = gone(x);\n    Joint,\n\
                pub lr: f64,\nenum Kind {\n}\npub struct KindOf;\n    self.gone(3)\n";
    for name in ["step", "Joint", "lr", "Kind", "KindOf"] {
        assert!(declares("a.rs", rust, name), "{name}");
    }
    for name in ["gone", "ste", "x", "Kin"] {
        assert!(!declares("a.rs", rust, name), "{name}");
    }
    let toml = "# lr = 3\n[optimizer.adamw]\nimage = { channels = 1, height = 2 }\nset = [\"drift.attraction=1.5\"]\n";
    for name in ["adamw", "image", "channels", "height", "attraction"] {
        assert!(declares("a.toml", toml, name), "{name}");
    }
    for name in ["lr", "optimizer", "chan", "drift"] {
        assert!(!declares("a.toml", toml, name), "{name}");
    }
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
            assert!(declares(file, &text, item), "{paper}: {file} declares no {item}");
        }
        for test in shown {
            assert!(tests.contains(test), "{paper}: there is no test {test}");
        }
    }
}

#[test]
fn nothing_of_the_paper_is_left_out() {
    let found: BTreeSet<String> = rows().into_iter().map(|[paper, ..]| paper).collect();
    let equations = (1..=27).map(|number| format!("eq. {number}"));
    let algorithms = (1..=2).map(|number| format!("Algorithm {number}"));
    let appendices = (1..=9).map(|number| format!("A.{number}")).chain((1..=5).map(|number| format!("B.{number}")));
    let appendices = appendices.chain((1..=2).map(|number| format!("C.{number}")));
    let table = TABLE_8.iter().map(|row| format!("Table 8: {row}"));
    for wanted in equations.chain(algorithms).chain(appendices).chain(table) {
        assert!(found.contains(&wanted), "{wanted} is missing");
    }
}
