//! What every request passes: it gets a number, a line in the log and, if it failed, its JSON body.

use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::authorize::KeyName;
use super::error::ApiError;
use super::{header_text, v2};
use crate::models::Models;
use crate::spans::Begun;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of a client's own request number that are kept.
const MAX_ID: usize = 128;

/// The route of what has none; a client cannot make up more of them.
const OTHER: &str = "other";

/// Numbers, times, counts and logs a request, and writes the body of an error.
pub(super) async fn trace(State(models): State<Arc<Models>>, request: Request, next: Next) -> Response {
    let (start, begun) = (Instant::now(), Begun::new(request.headers()));
    let id = request_id(request.headers().get(X_REQUEST_ID));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    let route = route.as_ref().map_or(OTHER, MatchedPath::as_str);
    models.metrics.answered(route, status);
    let told = [("http.request.method", method.as_str()), ("http.route", route), ("http.request.id", &id)];
    begun.end(&mut response, told);
    let key = response.extensions_mut().remove::<KeyName>();
    let key = key.as_ref().map(|KeyName(name)| &**name);
    let ms = start.elapsed().as_secs_f64() * 1e3;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        models.metrics.rejected(error.code);
        let (code, cause) = (error.code, error.details.cause.as_deref().unwrap_or_default());
        match error.status.is_server_error() {
            true => tracing::error!(%id, %method, path, status, ms, key, code, cause, "{}", error.details.message),
            false => tracing::info!(%id, %method, path, status, ms, key, code, "{}", error.details.message),
        }
        let allow = response.headers_mut().remove(header::ALLOW);
        let body = if v2::holds(&path) { v2::error(&error) } else { error.body(&id) };
        response = error.render(body);
        response.headers_mut().extend(allow.map(|methods| (header::ALLOW, methods)));
    } else {
        tracing::info!(%id, %method, path, status, ms, key, "answered");
    }
    response.headers_mut().insert(X_REQUEST_ID, header_text(&id));
    response
}

/// The client's own number if it can be printed, else a fresh one.
fn request_id(given: Option<&HeaderValue>) -> String {
    let given = given.and_then(|value| value.to_str().ok());
    let printable = |id: &&str| !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
    given.filter(printable).map_or_else(|| format!("{:016x}", RandomState::new().hash_one("request")), str::to_owned)
}

/// A handler that panicked is an error like any other.
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast::<String>().map(|text| *text);
    let text = text.or_else(|cause| cause.downcast::<&str>().map(|text| text.to_string()));
    let text = text.unwrap_or_else(|_| "no message".to_owned());
    ApiError::internal(format!("a handler panicked: {text}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_bring_its_own_number() {
        let id = |text: &'static str| request_id(Some(&HeaderValue::from_static(text)));
        assert_eq!(id("abc-1"), "abc-1");
        assert_ne!(id("two words"), "two words");
        assert_eq!(id("").len(), 16);
        assert_ne!(request_id(None), request_id(None));
    }
}
