//! What the server says about itself and its models: `GET /info`, `/classes`, `/healthz`, `/readyz`, `/metrics` and
//! `/openapi.json`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::chosen::Chosen;
use super::error::ApiError;
use crate::metrics;
use crate::models::Models;

/// The manifest, the engine and the limits.
pub(super) async fn info(Chosen(service): Chosen) -> Json<Value> {
    let limits = &service.limits;
    let milliseconds = u64::try_from(limits.request_timeout.as_millis()).unwrap_or(u64::MAX);
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": service.model,
        "engine": service.engine,
        "replicas": service.replicas,
        "limits": {
            "max_images": limits.max_images,
            "max_batch": limits.max_batch,
            "batch_sizes": service.batch_sizes,
            "exact": limits.exact,
            "queue": limits.queue,
            "max_body": limits.max_body,
            "request_timeout_ms": milliseconds,
        },
    }))
}

/// Numbers and names of the classes.
pub(super) async fn classes(Chosen(service): Chosen) -> Json<Value> {
    let names = service.model.manifest.classes.iter().enumerate();
    let classes: Vec<_> = names.map(|(id, name)| json!({ "id": id, "name": name })).collect();
    Json(json!({ "classes": classes }))
}

/// What Prometheus reads.
pub(super) async fn metrics(State(models): State<Arc<Models>>) -> Result<Response, ApiError> {
    let text = models.metrics_text().map_err(ApiError::internal)?;
    Ok(typed(metrics::CONTENT_TYPE, text))
}

/// The description of this interface for programs.
pub(super) async fn openapi() -> Response {
    typed("application/json", include_str!("openapi.json"))
}

fn typed(kind: &'static str, text: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

/// Whether the process is well, if only to finish what it has taken.
pub(super) async fn healthz(State(models): State<Arc<Models>>) -> (StatusCode, Json<Value>) {
    let well = models.are_running();
    state(well, if well { "ok" } else { "stopped" }, models.busy())
}

/// Whether images of every model can be asked for, and how many are on their way.
pub(super) async fn readyz(State(models): State<Arc<Models>>) -> (StatusCode, Json<Value>) {
    ready(models.are_running(), models.is_draining(), models.busy())
}

/// Whether images of one model can be asked for, and how many of them are on their way.
pub(super) async fn model_readyz(
    State(models): State<Arc<Models>>,
    Chosen(service): Chosen,
) -> (StatusCode, Json<Value>) {
    ready(service.worker.is_running(), models.is_draining(), service.worker.room.busy())
}

fn ready(running: bool, draining: bool, images: usize) -> (StatusCode, Json<Value>) {
    match (running, draining) {
        (true, false) => state(true, "ready", images),
        (true, true) => state(false, "draining", images),
        (false, _) => state(false, "stopped", images),
    }
}

fn state(well: bool, status: &str, images: usize) -> (StatusCode, Json<Value>) {
    let code = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status, "images_in_queue": images })))
}
