//! A server that needs a key.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use drifting_serve::{Gate, GateSettings, Limits, guarded};

use crate::client::{Answer, call, error, scripted, send};

const KEY: &str = "an-unguessable-key-of-alice";

fn write(folder: &Path, text: &str) -> GateSettings {
    let path = folder.join("keys.txt");
    std::fs::write(&path, text).unwrap();
    GateSettings { keys: Some(path), ..GateSettings::default() }
}

pub(crate) fn locked() -> Router {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::open(&write(folder.path(), &format!("alice: {KEY}\nanother-unguessable-key\n"))).unwrap();
    guarded(scripted(Limits::default()), &Arc::new(gate))
}

async fn with(app: &Router, address: &str, headers: &[(&str, &str)]) -> Answer {
    let request = Request::builder().method(if address.starts_with("/generate") { "POST" } else { "GET" }).uri(address);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    send(app, request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_key_opens_and_nothing_else_does() {
    let app = locked();
    let bearer = format!("Bearer {KEY}");
    // me:an-unguessable-key-of-alice
    let basic = "Basic bWU6YW4tdW5ndWVzc2FibGUta2V5LW9mLWFsaWNl";
    for good in [
        ("authorization", bearer.as_str()),
        ("authorization", "bearer another-unguessable-key"),
        ("authorization", basic),
        ("x-api-key", KEY),
    ] {
        assert_eq!(with(&app, "/generate?class=0", &[good]).await.status, 200, "{good:?}");
        assert_eq!(with(&app, "/", &[good]).await.status, 200, "{good:?}");
    }
    let cut = &bearer[..bearer.len() - 1];
    for wrong in [
        ("authorization", cut),
        ("authorization", KEY),
        ("authorization", "Bearer "),
        ("authorization", "Basic bWU6d3Jvbmc="),
        ("x-api-key", "alice"),
        ("x-api-key", "line-2"),
        ("cookie", KEY),
        ("x-request-id", KEY),
    ] {
        let answer = with(&app, "/generate?class=0", &[wrong]).await;
        assert_eq!(error(&answer), (401, "unauthorized".to_owned(), None), "{wrong:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert!(!String::from_utf8_lossy(&answer.body).contains(KEY) || wrong.0 == "x-request-id");
    }
    assert_eq!(with(&app, &format!("/info?key={KEY}"), &[]).await.status, 401);
}

#[tokio::test]
async fn health_alone_is_open() {
    let app = locked();
    for open in ["/healthz", "/readyz"] {
        assert_eq!(call(&app, Method::GET, open).await.status, 200);
    }
    for closed in
        ["/", "/metrics", "/openapi.json", "/absent", "/healthz/", "//healthz", "/healthz/../info", "/%68ealthz"]
    {
        assert_eq!(call(&app, Method::GET, closed).await.status, 401, "{closed}");
    }
    for method in [Method::PUT, Method::OPTIONS, Method::HEAD, Method::DELETE] {
        assert_eq!(call(&app, method.clone(), "/info").await.status, 401, "{method}");
    }
}

#[tokio::test]
async fn a_browser_asks_for_a_password_and_a_program_is_told() {
    let app = locked();
    let page = with(&app, "/", &[("accept", "text/html,application/xhtml+xml;q=0.9")]).await;
    assert_eq!(page.status, 401);
    assert!(page.header("www-authenticate").starts_with("Basic realm="));
    assert_eq!(with(&app, "/", &[("accept", "*/*")]).await.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn who_is_turned_away_is_counted() {
    let app = locked();
    with(&app, "/generate?class=0", &[]).await;
    with(&app, "/absent", &[("x-api-key", "wrong")]).await;
    let metrics = with(&app, "/metrics", &[("x-api-key", KEY)]).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "drift_rejected_total{reason=\"unauthorized\"} 2",
        "drift_requests_total{route=\"/generate\",status=\"401\"} 1",
        "drift_requests_total{route=\"other\",status=\"401\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains(KEY));
}

#[tokio::test]
async fn keys_are_changed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = write(folder.path(), KEY);
    let gate = Arc::new(Gate::open(&settings).unwrap());
    let app = guarded(scripted(Limits::default()), &gate);
    write(folder.path(), "a-newer-unguessable-key");
    assert_eq!(with(&app, "/info", &[("x-api-key", KEY)]).await.status, 200);
    gate.reload().unwrap();
    assert_eq!(with(&app, "/info", &[("x-api-key", KEY)]).await.status, 401);
    assert_eq!(with(&app, "/info", &[("x-api-key", "a-newer-unguessable-key")]).await.status, 200);
    // A file that went wrong locks nobody out, and lets nobody in.
    write(folder.path(), "short");
    let error = gate.reload().unwrap_err().to_string();
    assert!(error.contains("keys.txt, line 1: the key has 5 characters"), "{error}");
    assert_eq!(with(&app, "/info", &[("x-api-key", "a-newer-unguessable-key")]).await.status, 200);
    assert_eq!(with(&app, "/info", &[]).await.status, 401);
}

#[test]
fn a_file_without_a_key_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let error = Gate::open(&write(folder.path(), "# none yet\n")).unwrap_err().to_string();
    assert!(error.contains("keys.txt: no API key"), "{error}");
    let absent = GateSettings { keys: Some(folder.path().join("absent")), ..GateSettings::default() };
    assert!(Gate::open(&absent).unwrap_err().to_string().contains("absent"));
}
