//! The Open Inference Protocol, version 2 (REST, JSON tensors), for clients of inference servers: the same models, queues and
//! limits behind other addresses.

mod infer;
mod tensors;

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{MethodRouter, get, post};
use drifting_spec::ImageShape;
use serde_json::{Value, json};

use super::chosen::Chosen;
use super::error::{Allowed, ApiError};
use crate::models::Models;
use crate::service::Service;

/// The only version of every model: a file takes the place of another one, it does not stand beside it.
const VERSION: &str = "1";

/// Every address of the protocol.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Arc<Models>>)> {
    vec![
        ("/v2", get(server)),
        ("/v2/health/live", get(live)),
        ("/v2/health/ready", get(ready)),
        ("/v2/models/{name}", get(model)),
        ("/v2/models/{name}/ready", get(model_ready)),
        ("/v2/models/{name}/infer", post(infer::infer)),
        ("/v2/models/{name}/versions/{version}", get(model)),
        ("/v2/models/{name}/versions/{version}/ready", get(model_ready)),
        ("/v2/models/{name}/versions/{version}/infer", post(infer::infer)),
    ]
}

/// Whether answers at `path` follow the protocol.
pub(super) fn holds(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// The body of an error: the protocol knows words only.
pub(super) fn error(error: &ApiError) -> Value {
    json!({ "error": error.details.message })
}

/// The model that the address names, in the version that it names, if it does.
struct Named {
    name: String,
    service: Arc<Service>,
}

impl FromRequestParts<Arc<Models>> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, models: &Arc<Models>) -> Result<Self, ApiError> {
        let Chosen(service) = Chosen::from_request_parts(parts, models).await?;
        let parameters = RawPathParams::from_request_parts(parts, models).await.map_err(ApiError::internal)?;
        let value = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
        if let Some(version) = value("version").filter(|version| version != VERSION) {
            let message = format!("there is no version {version:?}; {VERSION:?} is the only one");
            let error = ApiError::new(StatusCode::NOT_FOUND, "unknown_version", message);
            return Err(error.with_allowed(Allowed::OneOf(vec![VERSION.to_owned()])));
        }
        Ok(Self { name: value("name").unwrap_or_default(), service })
    }
}

async fn server() -> Json<Value> {
    Json(json!({ "name": "drifting", "version": env!("CARGO_PKG_VERSION"), "extensions": [] }))
}

async fn live(State(models): State<Arc<Models>>) -> (StatusCode, Json<Value>) {
    let live = models.are_running();
    (status(live), Json(json!({ "live": live })))
}

async fn ready(State(models): State<Arc<Models>>) -> (StatusCode, Json<Value>) {
    let ready = models.are_running() && !models.is_draining();
    (status(ready), Json(json!({ "ready": ready })))
}

async fn model_ready(State(models): State<Arc<Models>>, Named { name, service }: Named) -> (StatusCode, Json<Value>) {
    let ready = service.worker.is_running() && !models.is_draining();
    (status(ready), Json(json!({ "name": name, "ready": ready })))
}

fn status(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Names, types and shapes of the tensors; -1 is the number of images.
async fn model(Named { name, service }: Named) -> Json<Value> {
    let ImageShape { channels, height, width } = service.image;
    let tensor = |name: &str, datatype: &str, shape: &[i64]| {
        let shape = [&[-1], shape].concat();
        json!({ "name": name, "datatype": datatype, "shape": shape })
    };
    let image = [channels, height, width].map(|side| side as i64);
    Json(json!({
        "name": name,
        "versions": [VERSION],
        "platform": format!("{}_onnx", service.engine.name),
        "inputs": [tensor("class", "INT64", &[]), tensor("alpha", "FP32", &[]), tensor("seed", "UINT64", &[])],
        "outputs": [tensor("image", "UINT8", &image), tensor("seed", "UINT64", &[]), tensor("values", "FP32", &image)],
    }))
}
