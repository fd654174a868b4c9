//! What the server says about itself.

use axum::http::Method;
use drifting_serve::{Limits, router};
use serde_json::json;

use crate::client::{app, call, error, generate, service};

#[tokio::test]
async fn a_draining_server_lives_and_takes_nothing_new() {
    let service = service(Limits::default());
    let app = router(service.clone());
    let state = async |address: &str| {
        let answer = call(&app, Method::GET, address).await;
        (answer.status.as_u16(), answer.json())
    };
    let idle = |status: &str| json!({ "status": status, "images_in_queue": 0 });
    assert_eq!(state("/healthz").await, (200, idle("ok")));
    assert_eq!(state("/readyz").await, (200, idle("ready")));
    service.drain();
    assert_eq!(state("/healthz").await, (200, idle("ok")));
    assert_eq!(state("/readyz").await, (503, idle("draining")));
    assert_eq!(error(&generate(&app, "class=1").await), (503, "draining".to_owned(), None));
}

#[tokio::test]
async fn classes_have_numbers_and_names() {
    let answer = call(&app(), Method::GET, "/classes").await.json();
    let classes = answer["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 10);
    assert_eq!(classes[3], json!({ "id": 3, "name": "Dress" }));
}
