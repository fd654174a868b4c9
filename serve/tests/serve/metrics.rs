//! What Prometheus reads of a server.

use axum::Router;
use axum::http::Method;
use drifting_serve::{Limits, router};

use crate::client::{FAILING, SLOW, app, call, generate, scripted};

/// The value of a series as it is written.
async fn value(app: &Router, series: &str) -> Option<String> {
    let answer = call(app, Method::GET, "/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(str::to_owned)
}

async fn assert_series(app: &Router, expected: &[(&str, &str)]) {
    for (series, expected) in expected {
        assert_eq!(value(app, series).await.as_deref(), Some(*expected), "{series}");
    }
}

#[tokio::test]
async fn requests_images_batches_and_errors_are_counted() {
    let app = router(scripted(Limits::default()));
    let other = self::app();
    generate(&app, "class=0&n=3").await;
    generate(&app, "class=99").await;
    generate(&app, "clas=9").await;
    generate(&app, &format!("class={FAILING}")).await;
    for path in ["/generate", "/absent", "/another"] {
        call(&app, Method::GET, path).await;
    }
    let expected = [
        ("drift_requests_total{route=\"/generate\",status=\"200\"}", "1"),
        ("drift_requests_total{route=\"/generate\",status=\"422\"}", "1"),
        ("drift_requests_total{route=\"/generate\",status=\"400\"}", "1"),
        ("drift_requests_total{route=\"/generate\",status=\"405\"}", "1"),
        ("drift_requests_total{route=\"/generate\",status=\"500\"}", "1"),
        ("drift_requests_total{route=\"other\",status=\"404\"}", "2"),
        ("drift_rejected_total{reason=\"out_of_range\"}", "1"),
        ("drift_rejected_total{reason=\"engine_failed\"}", "1"),
        ("drift_rejected_total{reason=\"not_found\"}", "2"),
        ("drift_images_total{model=\"fixture\"}", "3"),
        ("drift_queue_depth{model=\"fixture\"}", "0"),
        ("drift_batch_size_count{model=\"fixture\"}", "3"),
        ("drift_batch_size_sum{model=\"fixture\"}", "3.0"),
        ("drift_queue_seconds_count{model=\"fixture\"}", "1"),
        ("drift_compute_seconds_count{model=\"fixture\"}", "1"),
        ("drift_encode_seconds_count{model=\"fixture\"}", "1"),
        ("drift_total_seconds_count{model=\"fixture\"}", "1"),
    ];
    assert_series(&app, &expected).await;
    // Another server in the same process counts for itself.
    assert_series(
        &other,
        &[("drift_images_total{model=\"fixture\"}", "0"), ("drift_batch_size_count{model=\"fixture\"}", "0")],
    )
    .await;
    assert_eq!(value(&other, "drift_rejected_total{reason=\"not_found\"}").await, None);
    let text = call(&app, Method::GET, "/metrics").await.body;
    let text = String::from_utf8_lossy(&text);
    let info = text.lines().find(|line| line.starts_with("drift_model_info{")).unwrap();
    assert!(info.contains("name=\"fixture\"") && info.contains("engine=\"scripted\""), "{info}");
    assert!(text.contains("# HELP drift_images_total ") && text.contains("# TYPE drift_total_seconds histogram"));
}

#[tokio::test]
async fn the_queue_is_seen_from_outside() {
    let app = router(scripted(Limits::default()));
    let (busy, query) = (app.clone(), format!("class={SLOW}&n=2"));
    let slow = tokio::spawn(async move { generate(&busy, &query).await });
    while value(&app, "drift_queue_depth{model=\"fixture\"}").await.as_deref() != Some("2") {
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.await.unwrap().status, 200);
    assert_series(
        &app,
        &[("drift_queue_depth{model=\"fixture\"}", "0"), ("drift_images_total{model=\"fixture\"}", "2")],
    )
    .await;
}
