//! `GET /openapi.json` tells what the server does, and what it does is told.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request};
use drifting_serve::{Limits, router};
use serde_json::{Value, json};

use crate::client::{FAILING, PAUSE, SLOW, app, call, generate, post, scripted, send};
use crate::keys::locked;

async fn description() -> Value {
    call(&app(), Method::GET, "/openapi.json").await.json()
}

/// What a `$ref` in the description stands for.
fn resolved<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(address) => description.pointer(address.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{address}")),
        None => value,
    }
}

/// Whether the description has this answer, with this type.
fn is_told(description: &Value, (path, method): (&str, &str), (status, kind): (u16, &str)) -> bool {
    let answer = &description["paths"][path][method]["responses"][status.to_string()];
    let kinds = resolved(description, answer)["content"].as_object();
    kinds.is_some_and(|kinds| kinds.contains_key(kind))
}

#[tokio::test]
async fn what_can_be_read_answers_as_described() {
    let description = description().await;
    let app = app();
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 24);
    for (path, methods) in paths.iter().filter(|(_, methods)| methods["get"].is_object()) {
        let answer = call(&app, Method::GET, &path.replace("{name}", "fixture").replace("{version}", "1")).await;
        let kind = answer.header("content-type").split(';').next().unwrap();
        assert!(is_told(&description, (path, "get"), (answer.status.as_u16(), kind)), "{path}: {methods}");
    }
}

#[tokio::test]
async fn every_answer_of_generate_is_described_and_every_described_one_is_given() {
    let description = description().await;
    let app = router(scripted(Limits { max_images: 2, queue: 2, ..Limits::default() }));
    let hasty = router(scripted(Limits { request_timeout: PAUSE / 6, ..Limits::default() }));
    let service = scripted(Limits::default());
    service.drain();
    let accept = Request::post("/generate?class=0").header("accept", "text/html").body(Body::empty()).unwrap();
    let plain = Request::post("/generate?class=0").body(Body::from("class=0")).unwrap();
    let mut answers = vec![
        generate(&app, "").await,
        send(&app, accept).await,
        post(&app, "", " ".repeat(20_000)).await,
        send(&app, plain).await,
        generate(&app, "class=99").await,
        generate(&app, &format!("class={FAILING}")).await,
        generate(&router(service), "class=0").await,
        generate(&hasty, &format!("class={SLOW}")).await,
        generate(&locked(), "class=0").await,
    ];
    for format in ["png", "jpeg", "webp", "npy", "json"] {
        answers.push(generate(&app, &format!("class=0&format={format}")).await);
    }
    let (busy, query) = (app.clone(), format!("class={SLOW}&n=2"));
    let slow = tokio::spawn(async move { generate(&busy, &query).await });
    while call(&app, Method::GET, "/healthz").await.json()["images_in_queue"] != 2 {
        tokio::task::yield_now().await;
    }
    answers.push(generate(&app, "class=0").await);
    answers.push(slow.await.unwrap());

    // A body that does not come needs a socket: tests/serve/socket.rs.
    let mut seen = BTreeSet::from(["408".to_owned()]);
    for answer in &answers {
        let status = answer.status.as_u16();
        let kind = answer.header("content-type");
        assert!(is_told(&description, ("/generate", "post"), (status, kind)), "{status} {kind}");
        seen.insert(status.to_string());
    }
    let told = description["paths"]["/generate"]["post"]["responses"].as_object().unwrap();
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), seen);
    let headers = told["200"]["headers"].as_object().unwrap();
    for (name, _) in answers.iter().filter(|answer| answer.status == 200).flat_map(|answer| &answer.headers) {
        let known = ["content-type", "cache-control", "content-length"].contains(&name.as_str());
        assert!(known || headers.contains_key(name.as_str()), "{name}");
    }
}

#[tokio::test]
async fn what_is_said_of_the_default_model_is_said_of_each() {
    let description = description().await;
    let paths = &description["paths"];
    for (path, method) in [("/generate", "post"), ("/info", "get"), ("/classes", "get"), ("/readyz", "get")] {
        let (one, any) = (&paths[path][method], &paths[format!("/models/{{name}}{path}")][method]);
        let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut parameters = all(&any["parameters"]);
        let name = parameters.remove(0);
        assert_eq!((&name["name"], &name["in"], &name["required"]), (&json!("name"), &json!("path"), &json!(true)));
        let parameters: Vec<_> = parameters.iter().map(|value| resolved(&description, value).clone()).collect();
        assert_eq!(parameters, all(&one["parameters"]), "{path}");
        assert_eq!(resolved(&description, &any["requestBody"]), &one["requestBody"], "{path}");
        let (own, mut told) =
            (one["responses"].as_object().unwrap().clone(), any["responses"].as_object().unwrap().clone());
        assert!(told.remove("404").is_some(), "{path}");
        // Of health, only what is said of the whole server needs no key.
        assert!(own.contains_key("401") || told.remove("401").is_some(), "{path}");
        let told: Vec<_> = told.iter().map(|(status, value)| (status, resolved(&description, value))).collect();
        assert_eq!(told, own.iter().collect::<Vec<_>>(), "{path}");
    }
}

#[tokio::test]
async fn every_address_but_health_is_told_to_need_a_key() {
    let description = description().await;
    let app = locked();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let address = path.replace("{name}", "fixture").replace("{version}", "1");
            let asked = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let is_open = call(&app, asked, &address).await.status != 401;
            assert_eq!(operation["security"] == json!([]), is_open, "{method} {path}");
            let is_told = is_told(&description, (path, method), (401, "application/json"));
            assert_eq!(is_told, !is_open, "{method} {path}");
        }
    }
}
