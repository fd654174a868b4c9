//! The one error of the HTTP interface and the one place where it becomes a response.

use std::error::Error;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

/// What a parameter may be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Allowed {
    /// Numbers between two bounds, both included.
    Range { min: Value, max: Value },
    /// One of these words.
    OneOf(Vec<String>),
    /// A class by number or by name.
    Class { min: usize, max: usize, names: Vec<String> },
}

/// A request that cannot be answered with an image.
///
/// As a response it carries itself in the extensions; `trace` adds the request's number and writes the body, so that
/// errors of handlers, extractors and routes all look the same.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) details: Box<Details>,
}

/// What there is to say about an error.
#[derive(Clone, Debug, Default)]
pub(super) struct Details {
    pub(super) message: String,
    pub(super) parameter: Option<String>,
    pub(super) allowed: Option<Allowed>,
    /// Seconds after which another try makes sense.
    pub(super) retry_after: Option<u64>,
    /// How a client can say who it is.
    pub(super) challenge: Option<HeaderValue>,
    /// What is logged and not told.
    pub(super) cause: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let details = Details { message: message.into(), ..Details::default() };
        Self { status, code, details: Box::new(details) }
    }

    /// A parameter that cannot be read: 400.
    pub(super) fn syntax(parameter: &str, code: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, code, message);
        error.details.parameter = Some(parameter.to_owned());
        error
    }

    /// A parameter that can be read and is not allowed: 422.
    pub(super) fn range(parameter: &str, message: impl Into<String>, allowed: Allowed) -> Self {
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_range", message);
        error.details.parameter = Some(parameter.to_owned());
        error.with_allowed(allowed)
    }

    /// A fault of the server: 500. The cause goes to the log.
    pub(super) fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let message = "the images could not be made; the server's log says why";
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "engine_failed", message);
        error.details.cause = Some(cause.into().to_string());
        error
    }

    pub(super) fn with_allowed(mut self, allowed: Allowed) -> Self {
        self.details.allowed = Some(allowed);
        self
    }

    /// What is told about it.
    pub(super) fn body(&self, request_id: &str) -> Value {
        let Details { message, parameter, allowed, .. } = &*self.details;
        let mut body = json!({ "code": self.code, "message": message, "request_id": request_id });
        if let Some(parameter) = parameter {
            body["parameter"] = json!(parameter);
        }
        if let Some(allowed) = allowed {
            body["allowed"] = json!(allowed);
        }
        json!({ "error": body })
    }

    /// The response with `body`.
    pub(super) fn render(&self, body: Value) -> Response {
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.details.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = &self.details.challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.clone());
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
