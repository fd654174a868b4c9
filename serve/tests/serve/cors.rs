//! What a browser lets the pages of other servers do.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use drifting_serve::{Gate, GateSettings, Limits, Origins, guarded};

use crate::client::{Answer, app, scripted, send};

const PAGE: &str = "https://page.example";

fn open_to(origins: &[&str]) -> Router {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.txt");
    std::fs::write(&keys, "an-unguessable-key").unwrap();
    let origins = Origins::parse(&origins.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>()).unwrap();
    let gate = Gate::open(&GateSettings { keys: Some(keys), origins }).unwrap();
    guarded(scripted(Limits::default()), &Arc::new(gate))
}

async fn from(app: &Router, origin: &str, method: Method, headers: &[(&str, &str)]) -> Answer {
    let request = Request::builder().method(method).uri("/generate?class=0").header("origin", origin);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    send(app, request.body(Body::empty()).unwrap()).await
}

const PREFLIGHT: [(&str, &str); 2] =
    [("access-control-request-method", "POST"), ("access-control-request-headers", "authorization,content-type")];

#[tokio::test]
async fn it_is_closed_by_default() {
    let app = app();
    let answer = from(&app, PAGE, Method::OPTIONS, &PREFLIGHT).await;
    assert_eq!(answer.status, 405);
    let asked = from(&app, PAGE, Method::POST, &[]).await;
    assert_eq!(asked.status, 200);
    for headers in [answer.headers, asked.headers] {
        assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{headers:?}");
    }
}

#[tokio::test]
async fn a_preflight_needs_no_key_and_the_request_does() {
    let app = open_to(&["https://other.example", PAGE]);
    let answer = from(&app, PAGE, Method::OPTIONS, &PREFLIGHT).await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, PAGE));
    let allowed = answer.header("access-control-allow-headers").to_owned();
    assert!(["authorization", "content-type", "x-api-key"].iter().all(|name| allowed.contains(name)), "{allowed}");
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    assert!(answer.header("vary").contains("origin"));

    // A page may read an error, too.
    let refused = from(&app, PAGE, Method::POST, &[]).await;
    assert_eq!((refused.status.as_u16(), refused.header("access-control-allow-origin")), (401, PAGE));
    let answer = from(&app, PAGE, Method::POST, &[("x-api-key", "an-unguessable-key")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, PAGE));
    assert_eq!((answer.header("access-control-expose-headers"), answer.header("x-class")), ("*", "0"));
    assert!(answer.headers.get("access-control-allow-credentials").is_none());
}

#[tokio::test]
async fn another_page_is_told_nothing() {
    let app = open_to(&[PAGE]);
    for (origin, method) in
        [("https://evil.example", Method::OPTIONS), ("https://page.example.evil", Method::POST), ("null", Method::POST)]
    {
        let answer = from(&app, origin, method, &PREFLIGHT).await;
        assert!(answer.headers.get("access-control-allow-origin").is_none(), "{origin}");
    }
    let answer = from(&open_to(&["*"]), "https://any.example", Method::OPTIONS, &PREFLIGHT).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
}
