//! The HTTP interface. `docs/http-api.md` describes it for its users.

mod encode;
mod error;
mod format;
mod generate;
mod given;
mod info;
mod parameters;
mod trace;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::page;
use crate::service::Service;
use error::ApiError;

/// Bytes of a request's body that are read before it is refused.
const MAX_BODY: usize = 16 << 10;

/// The routes of `service`. Can be driven in-process (`tower::ServiceExt::oneshot`) or served on a socket.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/generate", post(generate::generate))
        .route("/healthz", get(info::healthz))
        .route("/readyz", get(info::readyz))
        .route("/info", get(info::info))
        .route("/classes", get(info::classes))
        .merge(page::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::custom(trace::panicked))
        .layer(middleware::from_fn(trace::trace))
        .with_state(service)
}

async fn not_found(uri: Uri) -> ApiError {
    let message = format!("there is nothing at {:?}; see GET /, POST /generate, GET /info, GET /healthz", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}; the header \"allow\" says what it takes", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// `text` as a header's value: what a header cannot hold becomes a space.
fn header_text(text: &str) -> HeaderValue {
    let visible = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
    HeaderValue::try_from(text.chars().map(visible).collect::<String>()).unwrap_or(HeaderValue::from_static(""))
}
