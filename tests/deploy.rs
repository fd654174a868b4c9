//! The command lines of operators' files (serve/deploy/) are such as the program takes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy only spares functions marked #[test]")]

mod common;

use common::Workspace;

const CONTAINER: &str = include_str!("../serve/deploy/Containerfile");
const UNIT: &str = include_str!("../serve/deploy/drifting.service");
const ENVIRONMENT: &str = include_str!("../serve/deploy/drifting.env");

/// What follows `key` at the beginning of one line.
fn value<'a>(file: &'a str, key: &str) -> &'a str {
    let found: Vec<_> = file.lines().filter_map(|line| line.strip_prefix(key)).collect();
    let [value] = found[..] else { panic!("{key} stands {} times", found.len()) };
    value.trim()
}

/// The command line gets as far as the model, which is not there. Any free port will do.
fn assert_taken(words: &[&str]) {
    let words: Vec<_> = words.iter().map(|word| if *word == "8000" { "0" } else { word }).collect();
    let problem = Workspace::new().fail(&words);
    let model = words.iter().find(|word| word.ends_with(".onnx")).unwrap();
    assert!(problem.contains(model) && !problem.contains("Usage"), "{words:?}: {problem}");
}

/// What follows a flag.
fn flag<'a>(words: &[&'a str], name: &str) -> &'a str {
    words.iter().skip_while(|word| **word != name).nth(1).unwrap_or_else(|| panic!("no {name}: {words:?}"))
}

#[test]
fn the_container_starts_a_command_that_exists() {
    assert_eq!(value(CONTAINER, "ENTRYPOINT "), "[\"drifting\"]");
    let words: Vec<String> = serde_json::from_str(value(CONTAINER, "CMD ")).unwrap();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    assert_taken(&words);
    assert_eq!(flag(&words, "--port"), value(CONTAINER, "EXPOSE "));
    assert_ne!(value(CONTAINER, "USER "), "root");
    Workspace::new().succeed(&["runtime", "install", "--help"]);
    assert!(CONTAINER.contains("target/release/drifting runtime install"));
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let oldest = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(CONTAINER.contains(&format!("FROM rust:{oldest}-")), "the container builds with Rust {oldest}");
}

#[test]
fn the_unit_starts_a_command_that_exists_and_lets_it_end_by_itself() {
    let start = value(UNIT, "ExecStart=").strip_prefix("/usr/local/bin/drifting ").unwrap();
    let start = start.replace("$MODEL", value(ENVIRONMENT, "MODEL=")).replace("$FLAGS", value(ENVIRONMENT, "FLAGS="));
    let words: Vec<_> = start.split(' ').collect();
    assert_taken(&words);
    let seconds = |text: &str| text.parse::<f64>().unwrap();
    assert!(seconds(value(UNIT, "TimeoutStopSec=")) > seconds(flag(&words, "--grace")) + 5.0);
    for (key, expected) in
        [("DynamicUser=", "yes"), ("ProtectSystem=", "strict"), ("ExecReload=", "/bin/kill -HUP $MAINPID")]
    {
        assert_eq!(value(UNIT, key), expected);
    }
}
