//! Several models in one server.

use axum::Router;
use axum::http::Method;
use drifting_serve::{Limits, Models, NameError, Part, ServiceError, router};
use serde_json::{Value, json};

use crate::client::{FAILING, call, error, fixture_part, scripted_part};

/// The fixture in rten, and the scripted engine.
fn app() -> Router {
    let parts = vec![fixture_part("fixture"), scripted_part("noise")];
    router(Models::start(parts, Limits::default()).unwrap())
}

async fn get(app: &Router, address: &str) -> (u16, Value) {
    let answer = call(app, Method::GET, address).await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn every_model_answers_under_its_name_and_the_first_without_one() {
    let app = app();
    let mut files = Vec::new();
    for address in ["/generate", "/models/fixture/generate", "/models/noise/generate"] {
        let answer = call(&app, Method::POST, &format!("{address}?class=4&seed=7")).await;
        assert_eq!(answer.status, 200);
        files.push((answer.header("x-engine").to_owned(), answer.body));
    }
    assert_eq!(files[0], files[1]);
    assert!(files[0].0.starts_with("rten/") && files[2].0.starts_with("scripted/") && files[2].1 != files[0].1);
    for address in ["/info", "/classes", "/readyz"] {
        let (first, named) = (get(&app, address).await, get(&app, &format!("/models/fixture{address}")).await);
        assert_eq!((first.0, &first), (200, &named), "{address}");
    }
    assert_eq!(get(&app, "/models/noise/info").await.1["engine"]["name"], "scripted");
}

#[tokio::test]
async fn a_list_tells_what_there_is() {
    let app = app();
    let (status, list) = get(&app, "/models").await;
    assert_eq!((status, list["models"].as_array().map(Vec::len)), (200, Some(2)));
    let sha256 = &get(&app, "/info").await.1["model"]["sha256"];
    let fixture = json!({
        "name": "fixture", "default": true, "state": "ready", "error": null, "sha256": sha256, "classes": 10,
        "alpha": { "min": 1.0, "max": 4.0, "default": 1.5 }, "image": { "channels": 1, "height": 8, "width": 8 }
    });
    assert_eq!(list["models"][0], fixture);
    assert_eq!((&list["models"][1]["name"], &list["models"][1]["default"]), (&json!("noise"), &json!(false)));
}

#[tokio::test]
async fn an_unknown_model_is_a_404_that_names_the_nearest() {
    let app = app();
    for (method, route) in [(Method::POST, "generate"), (Method::GET, "info"), (Method::GET, "readyz")] {
        let answer = call(&app, method, &format!("/models/fixtrue/{route}")).await;
        assert_eq!(error(&answer), (404, "unknown_model".to_owned(), Some("name".to_owned())));
        let error = &answer.json()["error"];
        assert!(error["message"].as_str().unwrap().contains("did you mean \"fixture\""), "{error}");
        assert_eq!(error["allowed"], json!(["fixture", "noise"]));
    }
    for name in ["%ff", "%00", "..%2f", "fixture%20"] {
        let answer = call(&app, Method::GET, &format!("/models/{name}/info")).await;
        assert_eq!(error(&answer).0, 404, "{name}");
    }
    assert_eq!(error(&call(&app, Method::GET, "/models/fixture").await).1, "not_found");
}

#[tokio::test]
async fn each_model_is_counted_and_fails_for_itself() {
    let app = app();
    call(&app, Method::POST, "/generate?class=0&n=3").await;
    call(&app, Method::POST, "/models/noise/generate?class=0&n=2").await;
    assert_eq!(call(&app, Method::POST, &format!("/models/noise/generate?class={FAILING}")).await.status, 500);
    let text = String::from_utf8(call(&app, Method::GET, "/metrics").await.body.to_vec()).unwrap();
    for line in [
        "drift_images_total{model=\"fixture\"} 3",
        "drift_images_total{model=\"noise\"} 2",
        "drift_requests_total{route=\"/models/{name}/generate\",status=\"200\"} 1",
        "drift_requests_total{route=\"/models/{name}/generate\",status=\"500\"} 1",
        "drift_requests_total{route=\"/generate\",status=\"200\"} 1",
        "drift_queue_depth{model=\"noise\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("drift_model_info{model=")).count(), 2);
}

#[test]
fn names_must_tell_models_apart() {
    let refused = |parts: Vec<Part>| match Models::start(parts, Limits::default()) {
        Err(ServiceError::Name(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(
        matches!(refused(vec![scripted_part("a"), scripted_part("a")]), NameError::Taken { name, .. } if name == "a")
    );
    assert!(matches!(refused(vec![scripted_part("a/b")]), NameError::Invalid(_)));
    assert!(matches!(refused(Vec::new()), NameError::None));
}
