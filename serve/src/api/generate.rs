//! `POST /generate`: from an order to its images.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use tokio::sync::oneshot;

use super::chosen::Chosen;
use super::error::ApiError;
use super::parameters;
use super::{encode, given, header_text};
use crate::metrics::Times;
use crate::models::Models;
use crate::service::Service;
use crate::spans;
use crate::worker::{Answer, Made, Order, Refusal};

/// The class of the images, which may have been drawn.
const X_CLASS: HeaderName = HeaderName::from_static("x-class");
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

/// Reads the order, has it made by the worker and encodes the images on a thread that may block.
pub(super) async fn generate(
    State(models): State<Arc<Models>>,
    Chosen(service): Chosen,
    mut request: Request,
) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let headers = std::mem::take(request.headers_mut());
    let pairs = given::read(request, &headers, &service.limits).await?;
    let parameters = parameters::parse(&pairs, &headers, &service.model.manifest, service.limits.max_images)?;
    encode::check_size(&service, &parameters)?;
    check_draining(&models)?;
    let answer = submit(&service, parameters.order)?;
    let made = wait(&service, answer, tokio::time::Instant::now()).await?;
    let Order { class, seed, .. } = parameters.order;
    let headers = [(X_CLASS, HeaderValue::from(class)), (X_SEED, HeaderValue::from(seed))];
    let headers: Vec<_> = headers.into_iter().chain(about_making(&service, &made)).collect();
    let metrics = service.metrics.clone();
    let (images, queue, compute) = (parameters.order.count.get(), made.queue, made.compute);
    let encoded = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        encode::encode(&service, &parameters, &made.values).map(|response| (response, begun.elapsed()))
    });
    let (mut response, encode) = encoded.await.map_err(ApiError::internal)??;
    let times = Times { queue, compute, encode, total: begun.elapsed() };
    metrics.made(images, times);
    spans::note(&mut response, times);
    response.headers_mut().extend(headers);
    Ok(response)
}

/// # Errors
/// 503 once the server was told to stop.
pub(super) fn check_draining(models: &Models) -> Result<(), ApiError> {
    if models.is_draining() {
        let message = "the server is shutting down";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message));
    }
    Ok(())
}

/// Puts an order into the queue; dropping the receiver withdraws it.
///
/// # Errors
/// 429 where the queue is full.
pub(super) fn submit(service: &Service, order: Order) -> Result<oneshot::Receiver<Answer>, ApiError> {
    service.worker.submit(order).map_err(|refusal| match refusal {
        Refusal::Full(seconds) => {
            let message = format!("{} images wait already; try again in {seconds} s", service.worker.room.busy());
            let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
            error.details.retry_after = Some(seconds);
            error
        }
        Refusal::Stopped => ApiError::internal("the engine's thread has ended"),
    })
}

/// Waits for the worker. A client that leaves drops this future, and with it the order.
///
/// # Errors
/// 504 for images that are not ready in time after `begun`, 500 for an engine that fails.
pub(super) async fn wait(
    service: &Service,
    answer: oneshot::Receiver<Answer>,
    begun: tokio::time::Instant,
) -> Result<Made, ApiError> {
    let limit = service.limits.request_timeout;
    let answer = tokio::time::timeout_at(begun + limit, answer).await.map_err(|_| {
        let message = format!("the images were not ready within {} s", limit.as_secs_f32());
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    })?;
    answer.map_err(ApiError::internal)?.map_err(ApiError::internal)
}

/// What an answer says about how its images were made.
pub(super) fn about_making(service: &Service, made: &Made) -> Vec<(HeaderName, HeaderValue)> {
    let milliseconds = |time: Duration| header_text(&format!("{:.2}", time.as_secs_f64() * 1e3));
    let mut headers = vec![
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
