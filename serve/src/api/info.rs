//! What the server says about itself: `GET /info`, `/classes`, `/healthz`, `/readyz`, `/metrics`
//! and `/openapi.json`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::ApiError;
use crate::metrics;
use crate::service::Service;

/// The manifest, the engine and the limits.
pub(super) async fn info(State(service): State<Arc<Service>>) -> Json<Value> {
    let limits = &service.limits;
    let milliseconds = u64::try_from(limits.request_timeout.as_millis()).unwrap_or(u64::MAX);
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": service.model,
        "engine": service.engine,
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
pub(super) async fn classes(State(service): State<Arc<Service>>) -> Json<Value> {
    let names = service.model.manifest.classes.iter().enumerate();
    let classes: Vec<_> = names.map(|(id, name)| json!({ "id": id, "name": name })).collect();
    Json(json!({ "classes": classes }))
}

/// What Prometheus reads.
pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Result<Response, ApiError> {
    let text = service.metrics.text(service.worker.busy()).map_err(ApiError::internal)?;
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
pub(super) async fn healthz(State(service): State<Arc<Service>>) -> (StatusCode, Json<Value>) {
    let well = service.worker.is_running();
    state(&service, well, if well { "ok" } else { "stopped" })
}

/// Whether images can be asked for, and how many are on their way.
pub(super) async fn readyz(State(service): State<Arc<Service>>) -> (StatusCode, Json<Value>) {
    match (service.worker.is_running(), service.is_draining()) {
        (true, false) => state(&service, true, "ready"),
        (true, true) => state(&service, false, "draining"),
        (false, _) => state(&service, false, "stopped"),
    }
}

fn state(service: &Service, well: bool, status: &str) -> (StatusCode, Json<Value>) {
    let code = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status, "images_in_queue": service.worker.busy() })))
}
