//! What every request passes before its route: whether it may.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use crate::gate::{Admission, Gate};

/// What tells a load balancer how the server is needs no key.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// For programs.
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
/// For browsers, which then ask for a name and a password.
const BASIC: HeaderValue =
    HeaderValue::from_static("Basic realm=\"drifting: the password is an API key\", charset=\"UTF-8\"");

/// The name of the key that a request was let in with, in its answer's extensions.
#[derive(Clone, Debug)]
pub(super) struct KeyName(pub(super) Arc<str>);

/// Lets a request pass if it brings a key or needs none.
pub(super) async fn authorize(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let message = match gate.admit(request.headers()) {
        Admission::Open => return next.run(request).await,
        Admission::Key(name) => {
            let mut response = next.run(request).await;
            response.extensions_mut().insert(KeyName(name));
            return response;
        }
        Admission::Missing => "a key is needed: \"authorization: Bearer KEY\" or \"x-api-key: KEY\"",
        Admission::Wrong => "the key is not one of this server's",
    };
    let mut error = ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
    error.details.challenge = Some(if is_browser(request.headers()) { BASIC } else { BEARER });
    error.into_response()
}

/// Whether a person waits for a page.
fn is_browser(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts
        .flat_map(|list| list.split(','))
        .any(|range| range.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html")))
}
