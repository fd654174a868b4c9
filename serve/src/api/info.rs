//! `GET /info` and `GET /healthz`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

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
            "request_timeout_ms": milliseconds,
        },
    }))
}

/// Whether images can be asked for, and how many are on their way.
pub(super) async fn healthz(State(service): State<Arc<Service>>) -> (StatusCode, Json<Value>) {
    let (code, status) = match service.is_draining() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        false => (StatusCode::OK, "ok"),
    };
    (code, Json(json!({ "status": status, "images_in_queue": service.worker.busy() })))
}
