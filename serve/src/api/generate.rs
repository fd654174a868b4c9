//! `POST /generate`: from an order to PNG or JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use drifting_spec::{ImageShape, pixels};
use serde_json::json;

use super::error::ApiError;
use super::parameters::{self, Format, Parameters};
use super::png::{self, Picture};
use super::{base64, header_text};
use crate::service::Service;
use crate::worker::{Made, Order, Refusal};

/// The seed in use.
const X_SEED: HeaderName = HeaderName::from_static("x-seed");
/// From admission to the first batch.
const X_QUEUE_MS: HeaderName = HeaderName::from_static("x-queue-ms");
/// In the engine, over all batches.
const X_COMPUTE_MS: HeaderName = HeaderName::from_static("x-compute-ms");
/// The largest batch that the order took part in.
const X_BATCH_SIZE: HeaderName = HeaderName::from_static("x-batch-size");
/// SHA-256 of the model file.
const X_MODEL: HeaderName = HeaderName::from_static("x-model");
/// The engine in use.
const X_ENGINE: HeaderName = HeaderName::from_static("x-engine");
/// Why it is not the preferred one.
const X_ENGINE_FALLBACK: HeaderName = HeaderName::from_static("x-engine-fallback");

/// A query, decoded, in its own order.
type Pairs = Vec<(String, String)>;

/// Reads the order, has it made by the worker and encodes the images on a thread that may block.
pub(super) async fn generate(
    State(service): State<Arc<Service>>,
    query: Result<Query<Pairs>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let Query(pairs) = query.map_err(|error| ApiError::syntax("query", "invalid_query", error.body_text()))?;
    if body.map_or(true, |body| !body.is_empty()) {
        let message = "parameters belong into the query (POST /generate?class=...); the body has to be empty";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "body_not_empty", message));
    }
    let Parameters { order, format } = parameters::parse(&pairs, &service.model.manifest, service.limits.max_images)?;
    let made = make(&service, order).await?;
    let headers = headers(&service, order, &made);
    let encoded = tokio::task::spawn_blocking(move || match format {
        Format::Png => encode_png(&service, order, &made.values),
        Format::Json => encode_json(&service, order, &made.values),
    });
    let mut response = encoded.await.map_err(ApiError::internal)??;
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Waits for the worker. A client that leaves drops this future, and with it the order.
async fn make(service: &Service, order: Order) -> Result<Made, ApiError> {
    if service.is_draining() {
        let message = "the server is shutting down";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message));
    }
    let answer = service.worker.submit(order).map_err(|refusal| match refusal {
        Refusal::Full(seconds) => {
            let message = format!("{} images wait already; try again in {seconds} s", service.worker.busy());
            let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
            error.details.retry_after = Some(seconds);
            error
        }
        Refusal::Stopped => ApiError::internal("the engine's thread has ended"),
    })?;
    let limit = service.limits.request_timeout;
    let answer = tokio::time::timeout(limit, answer).await.map_err(|_| {
        let message = format!("the images were not ready within {} s", limit.as_secs_f32());
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    })?;
    let made = answer.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    if made.values.iter().any(|value| !value.is_finite()) {
        return Err(ApiError::internal("the model's output holds numbers that are not finite"));
    }
    Ok(made)
}

/// What the answer says about itself besides its image.
fn headers(service: &Service, order: Order, made: &Made) -> Vec<(HeaderName, HeaderValue)> {
    let milliseconds = |time: Duration| header_text(&format!("{:.2}", time.as_secs_f64() * 1e3));
    let mut headers = vec![
        (X_SEED, HeaderValue::from(order.seed)),
        (X_QUEUE_MS, milliseconds(made.queue)),
        (X_COMPUTE_MS, milliseconds(made.compute)),
        (X_BATCH_SIZE, HeaderValue::from(made.batch)),
        (X_MODEL, header_text(&service.model.sha256)),
        (X_ENGINE, header_text(&service.engine.to_string())),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    if let Some(reason) = &service.engine.fallback {
        headers.push((X_ENGINE_FALLBACK, header_text(reason)));
    }
    headers
}

/// One image as it is, several as a sheet that is as square as can be.
fn encode_png(service: &Service, order: Order, values: &[f32]) -> Result<Response, ApiError> {
    let images = to_pixels(service, values)?;
    let shape = service.image;
    let count = images.len();
    let file = if let [image] = &images[..] {
        encode(service, order, "0", (shape, image))?
    } else {
        let columns = (1..).find(|columns| columns * columns >= count).unwrap_or(1);
        let (shape, sheet) = pixels::sheet(&images, shape, columns).map_err(ApiError::internal)?;
        encode(service, order, &format!("0-{}", count.saturating_sub(1)), (shape, &sheet))?
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("image/png"))], file).into_response())
}

/// Every image as a PNG of its own.
fn encode_json(service: &Service, order: Order, values: &[f32]) -> Result<Response, ApiError> {
    let Order { class, alpha, seed, .. } = order;
    let manifest = &service.model.manifest;
    let mut images = Vec::with_capacity(order.count.get());
    for (index, image) in to_pixels(service, values)?.iter().enumerate() {
        let file = encode(service, order, &index.to_string(), (service.image, image))?;
        let class_name = manifest.classes.get(class);
        let (png, index) = (base64::encode(&file), index as u64);
        images.push(json!({
            "index": index, "seed": seed, "class": class, "class_name": class_name, "alpha": alpha, "png": png
        }));
    }
    Ok(Json(json!({ "seed": seed, "model": service.model.sha256, "images": images })).into_response())
}

/// The bytes of every image.
fn to_pixels(service: &Service, values: &[f32]) -> Result<Vec<Vec<u8>>, ApiError> {
    let (range, shape) = (service.model.manifest.output_range(), service.image);
    let image = |planar| pixels::to_bytes(range, planar, shape).map_err(ApiError::internal);
    values.chunks_exact(shape.len()).map(image).collect()
}

/// A PNG that says what it was made from; `index` is its image's number, or the first and the last of a sheet.
fn encode(service: &Service, order: Order, index: &str, image: (ImageShape, &[u8])) -> Result<Vec<u8>, ApiError> {
    let class_name = service.model.manifest.classes.get(order.class).cloned().unwrap_or_default();
    let text = [
        ("Software", concat!("drifting ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("Seed", order.seed.to_string()),
        ("Index", index.to_owned()),
        ("Class", order.class.to_string()),
        ("Class name", class_name),
        ("Alpha", order.alpha.to_string()),
        ("Model SHA-256", service.model.sha256.clone()),
    ];
    png::encode(&Picture { shape: image.0, pixels: image.1, text: &text }).map_err(ApiError::internal)
}
