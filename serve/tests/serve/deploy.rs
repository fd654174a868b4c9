//! Operators' files (serve/deploy/), as far as they speak of a running server. tests/deploy.rs has the command lines.

use std::collections::BTreeSet;
use std::process::Command;

use axum::http::Method;
use drifting_serve::{Limits, Server, router};
use serde_json::Value;

use crate::client::{call, generate, scripted};
use crate::{fixture, socket};

/// Every text of a document, wherever it stands.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(values) => values.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Names of metrics within a query.
fn names(query: &str) -> Vec<&str> {
    let starts = query.match_indices("drift_").map(|(at, _)| &query[at..]);
    let end = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    starts.map(|text| &text[..end(text)]).collect()
}

#[tokio::test]
async fn the_dashboard_asks_for_metrics_that_are_there() {
    let app = router(scripted(Limits::default()));
    generate(&app, "class=0").await;
    generate(&app, "class=99").await;
    let told = call(&app, Method::GET, "/metrics").await.body;
    let told = String::from_utf8(told.to_vec()).unwrap();
    let samples = told.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next());
    let there: BTreeSet<_> = samples.collect();

    let dashboard: Value = serde_json::from_str(include_str!("../../deploy/grafana.json")).unwrap();
    let asked: BTreeSet<_> = texts(&dashboard).into_iter().flat_map(names).collect();
    assert!(asked.len() > 10, "{asked:?}");
    let absent: Vec<_> = asked.difference(&there).collect();
    assert!(absent.is_empty(), "{absent:?} of the dashboard are not among {there:?}");

    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}

/// The container's HEALTHCHECK, for a server on `port`.
fn health_check(port: u16) -> Command {
    let lines = include_str!("../../deploy/Containerfile").lines();
    let [check] = lines.filter(|line| line.starts_with("HEALTHCHECK ")).collect::<Vec<_>>()[..] else {
        panic!("one line is the HEALTHCHECK");
    };
    let words: Vec<String> = serde_json::from_str(check.split_once("CMD ").unwrap().1).unwrap();
    assert!(words.iter().any(|word| word.contains("/8000 ")), "{words:?}");
    let mut command = Command::new(&words[0]);
    command.args(words[1..].iter().map(|word| word.replace("/8000 ", &format!("/{port} "))));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_containers_health_check_knows_a_server_from_none() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::bind(&socket::settings(fixture::model_file(folder.path())), &|_| {}).unwrap();
    let port = server.local_addr().port();
    let running = tokio::spawn(server.run(std::future::pending()));
    let well = async || {
        let checked = tokio::task::spawn_blocking(move || health_check(port).output().unwrap()).await;
        checked.unwrap().status.success()
    };
    assert!(well().await);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(!well().await);
}
