//! schemathesis against `/openapi.json`: requests by the hundred, right and wrong ones, that the description allows to expect.
//!
//! All of its checks are on: no status that is not described, no 5xx, bodies and headers as described, wrong requests
//! refused, right ones accepted.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::Workspace;
use crate::python::python;
use crate::running::Running;

const REQUIREMENTS: &str = "tests/server/requirements.txt";

/// What the description cannot say: which values are in range is the model's, a parameter may be in the query or in the
/// body and not in both, tensors must fit each other, `accept` may take none of the formats, a body may be too long.
const SETTINGS: &str = r#"
[[operations]]
include-path-regex = "/(generate|infer)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 404, 406, 413, 422]
checks.negative_data_rejection.expected-statuses = [400, 404, 405, 406, 413, 415, 422]
"#;

fn judge(python: &Path, workspace: &Workspace, args: &[&str]) {
    let mut command = Command::new(python.with_file_name("st"));
    command.current_dir(workspace.path("")).args(["--config-file", "schemathesis.toml", "run"]).args(args);
    // The same requests each time.
    command.args(["--checks", "all", "--seed", "1", "--no-color", "--continue-on-failure"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "schemathesis finds fault: {said}{}", String::from_utf8_lossy(&output.stderr));
}

/// The description as it is for one model: every request that fits is a right one.
fn narrowed(description: &mut Value, classes: usize, alpha: &Value) {
    let paths = description["paths"].as_object_mut().unwrap();
    paths.retain(|path, _| path == "/generate");
    let generate = &mut paths["/generate"]["post"];
    generate.as_object_mut().unwrap().remove("requestBody");
    for parameter in generate["parameters"].as_array_mut().unwrap() {
        let name = parameter["name"].as_str().unwrap().to_owned();
        match name.as_str() {
            "class" => {
                let numbers = (0..classes).map(|class| class.to_string()).chain(["random".to_owned()]);
                parameter["required"] = json!(true);
                parameter["schema"]["enum"] = json!(numbers.collect::<Vec<_>>());
            }
            "alpha" => {
                parameter["schema"]["minimum"] = alpha["min"].clone();
                parameter["schema"]["maximum"] = alpha["max"].clone();
            }
            "n" | "grid" => parameter["schema"]["maximum"] = json!(8),
            // The others have no sheet, so no grid.
            "format" => parameter["schema"]["enum"] = json!(["png", "jpeg", "webp"]),
            _ => {}
        }
    }
}

#[test]
fn schemathesis_finds_no_fault() {
    let Some(python) = python(REQUIREMENTS, "python-schemathesis") else { return };
    let server = Running::start(&["--max-images", "8"]);
    let workspace = Workspace::new();
    let origin = format!("http://{}", server.address);
    std::fs::write(workspace.path("schemathesis.toml"), SETTINGS).unwrap();
    judge(&python, &workspace, &[&format!("{origin}/openapi.json"), "--max-examples", "100"]);

    let (mut description, info) = (server.json("/openapi.json"), server.json("/info"));
    let manifest = &info["model"]["manifest"];
    narrowed(&mut description, manifest["classes"].as_array().unwrap().len(), &manifest["alpha"]);
    std::fs::write(workspace.path("narrow.json"), description.to_string()).unwrap();
    std::fs::write(workspace.path("schemathesis.toml"), "").unwrap();
    judge(&python, &workspace, &["narrow.json", "--url", &origin, "--max-examples", "200", "--mode", "positive"]);
    server.log();
}
