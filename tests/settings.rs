//! Flags, environment and file of `drifting serve`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod common;

use std::path::Path;
use std::process::Output;

use common::Workspace;
use toml::{Table, Value};

fn run(workspace: &Workspace, variables: &[(&str, &str)], args: &[&str]) -> Output {
    workspace.command(&[&["serve"], args].concat()).envs(variables.iter().copied()).output().unwrap()
}

/// What is printed for these settings.
fn printed(workspace: &Workspace, variables: &[(&str, &str)], args: &[&str]) -> String {
    let output = run(workspace, variables, &[args, &["--print-settings"]].concat());
    let (text, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{error}");
    text
}

/// The error about these settings.
fn refused(workspace: &Workspace, variables: &[(&str, &str)], args: &[&str]) -> String {
    let output = run(workspace, variables, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !error.contains("panicked"), "{error}");
    error
}

fn write(workspace: &Workspace, text: &str) {
    std::fs::create_dir_all(workspace.path("etc")).unwrap();
    std::fs::write(workspace.path("etc/serve.toml"), text).unwrap();
}

const CONFIG: [&str; 2] = ["--config", "etc/serve.toml"];

#[test]
fn what_is_typed_goes_before_the_environment_and_that_before_the_file() {
    let workspace = Workspace::new();
    write(
        &workspace,
        "port = 1\nqueue = 100\nmax_images = 50\nlog_json = true\ncors_origin = [\"http://a.example\"]\n",
    );
    let variables =
        [("DRIFTING_SERVE_PORT", "2"), ("DRIFTING_SERVE_QUEUE", "200"), ("DRIFTING_SERVE_LOG_JSON", "false")];
    let text = printed(&workspace, &variables, &[&CONFIG[..], &["--port", "3"]].concat());
    for line in [
        "port = 3 # flag",
        "queue = 200 # environment",
        "log_json = false # environment",
        "max_images = 50 # etc/serve.toml",
        "cors_origin = [\"http://a.example\"] # etc/serve.toml",
        "timeout = 60 # default",
        "# api_keys is not set",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let lists =
        [("DRIFTING_SERVE_CORS_ORIGIN", "http://b.example,http://c.example"), ("DRIFTING_SERVE_CONFIG", CONFIG[1])];
    let text = printed(&workspace, &lists, &[]);
    assert!(text.contains("cors_origin = [\"http://b.example\", \"http://c.example\"] # environment"), "{text}");
    assert!(text.contains("port = 1 # etc/serve.toml"), "{text}");
}

#[test]
fn what_is_printed_is_a_file_of_the_same_settings() {
    let workspace = Workspace::new();
    std::fs::write(workspace.path("keys.txt"), "not-to-be-printed-anywhere").unwrap();
    let flags =
        ["a.onnx", "b=b/c.onnx", "--api-keys", "keys.txt", "--cors-origin", "http://a.example", "--timeout", "0.5"];
    let more = ["--provider", "cuda", "--provider-option", "prefer_nhwc=1", "--cuda-graphs", "--threads", "3"];
    let first = printed(&workspace, &[], &[&flags[..], &more].concat());
    assert!(!first.contains("not-to-be-printed"));
    std::fs::write(workspace.path("again.toml"), &first).unwrap();
    let again = printed(&workspace, &[], &["--config", "again.toml"]);
    let table = |text: &str| text.parse::<Table>().unwrap();
    assert_eq!(table(&first), table(&again));
    let models = table(&again)["models"].as_array().unwrap().clone();
    assert_eq!(
        (models.len(), models[1]["name"].as_str(), models[1]["file"].as_str()),
        (2, Some("b"), Some("b/c.onnx"))
    );
    assert_eq!(table(&again)["provider_option"][0].as_str(), Some("prefer_nhwc=1"));
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let workspace = Workspace::new();
    write(&workspace, "api_keys = \"keys.txt\"\n[[models]]\nfile = \"../m.onnx\"\nplan = \"/plans/m.plan\"\n");
    let table: Table = printed(&workspace, &[], &CONFIG).parse().unwrap();
    assert_eq!(table["api_keys"].as_str(), Some("etc/keys.txt"));
    assert_eq!(table["models"][0]["file"].as_str(), Some("etc/../m.onnx"));
    assert_eq!(table["models"][0]["plan"].as_str(), Some("/plans/m.plan"));
    let typed: Table = printed(&workspace, &[], &[&CONFIG[..], &["n.onnx"]].concat()).parse().unwrap();
    assert_eq!(typed["models"].as_array().map(Vec::len), Some(1));
    assert_eq!(typed["models"][0]["file"].as_str(), Some("n.onnx"));
}

#[test]
fn a_wrong_file_is_told_by_file_line_and_key() {
    let workspace = Workspace::new();
    for (text, words) in [
        ("\nprot = 1", "etc/serve.toml, line 2: prot: there is no such setting; did you mean \"port\"?"),
        ("port = 1\n\nport_number = 70000", "line 3: port_number: there is no such setting"),
        ("config = \"other.toml\"", "line 1: config: there is no such setting"),
        ("a = 1\n", "line 1: a: there is no such setting"),
        ("port = 70000", "line 1: port: 70000 is not in 0..=65535"),
        ("port = [1, 2]", "line 1: port: a list, where one value is wanted"),
        ("[port]\nx = 1", "port: a table, where a text"),
        ("engine = \"ort\"", "line 1: engine: "),
        ("timeout = -1", "line 1: timeout: "),
        ("fast_batches = 1", "line 1: fast_batches: \"1\" is neither true nor false"),
        ("cors_origin = [\"http://a.example/\"]", "line 1: cors_origin: \"http://a.example/\" is no origin"),
        ("[[models]]\nfil = \"a\"", "`fil`"),
        ("[[models]]\nname = \"a\"", "missing field `file`"),
        ("port = ", "etc/serve.toml: TOML parse error at line 1"),
        ("port = 1\nport = 2", "line 2"),
    ] {
        write(&workspace, text);
        let error = refused(&workspace, &[], &CONFIG);
        assert!(error.contains("etc/serve.toml") && error.contains(words), "{text:?}: {error}");
    }
    assert!(refused(&workspace, &[], &["--config", "absent.toml"]).contains("cannot read absent.toml"));
    write(&workspace, "port = 1");
    assert!(refused(&workspace, &[], &CONFIG).contains("[[models]]"));
}

#[test]
fn a_wrong_variable_is_told_by_its_name() {
    let workspace = Workspace::new();
    let error = refused(&workspace, &[("DRIFTING_SERVE_PORT", "tcp://10.0.0.1:80")], &["m.onnx"]);
    assert!(error.contains("environment variable DRIFTING_SERVE_PORT: "), "{error}");
    // Another command is not concerned.
    assert!(workspace.command(&["doctor"]).env("DRIFTING_SERVE_PORT", "x").output().unwrap().status.success());
    let error = refused(&workspace, &[("DRIFTING_SERVE_PROT", "1")], &["absent.onnx"]);
    assert!(error.contains("DRIFTING_SERVE_PROT is no setting; did you mean DRIFTING_SERVE_PORT?"), "{error}");
    let help = String::from_utf8(run(&workspace, &[], &["--help"]).stdout).unwrap();
    for name in
        ["DRIFTING_SERVE_PORT", "DRIFTING_SERVE_API_KEYS", "DRIFTING_SERVE_PROVIDER_OPTION", "DRIFTING_SERVE_CONFIG"]
    {
        assert!(help.contains(&format!("[env: {name}]")), "{help}");
    }
}

#[test]
fn the_example_loads_and_says_what_happens_without_it() {
    let workspace = Workspace::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/serve.toml");
    let example = example.to_str().unwrap();
    let from_example: Table = printed(&workspace, &[], &["--config", example]).parse().unwrap();
    let mut usual: Table = printed(&workspace, &[], &["fashion.onnx"]).parse().unwrap();
    let folder = Path::new(example).parent().unwrap();
    let models = format!(
        "models = [{{ name = \"fashion\", file = {} }}]",
        Value::from(folder.join("fashion.onnx").to_str().unwrap())
    );
    usual.extend(models.parse::<Table>().unwrap());
    assert_eq!(from_example, usual);
    // What is commented out is right, too.
    let all = std::fs::read_to_string(example).unwrap().replace("# [[", "[[");
    let setting =
        |line: &str| line.strip_prefix("# ").filter(|rest| rest.split(' ').nth(1) == Some("=")).map(str::to_owned);
    let all: Vec<_> = all.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned())).collect();
    write(&workspace, &all.join("\n"));
    let table: Table = printed(&workspace, &[], &CONFIG).parse().unwrap();
    assert_eq!(table["models"][1]["plan"].as_str(), Some("etc/faces/model.plan"));
    assert!(["api_keys", "tls_cert", "tls_key", "threads"].iter().all(|key| table.contains_key(*key)), "{table}");
}

#[test]
fn a_key_that_is_wrong_keeps_a_server_from_starting() {
    let workspace = Workspace::new();
    std::fs::write(workspace.path("keys.txt"), "short").unwrap();
    let error = refused(&workspace, &[], &["m.onnx", "--api-keys", "keys.txt", "--port", "0"]);
    assert!(error.contains("keys.txt, line 1: the key has 5 characters"), "{error}");
    let error = refused(&workspace, &[], &["m.onnx", "--tls-cert", "c.pem", "--port", "0"]);
    assert!(error.contains("belong together"), "{error}");
}
