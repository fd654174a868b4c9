//! The HTTP interface. `docs/http-api.md` describes it for its users.

mod chosen;
mod encode;
mod error;
mod format;
mod generate;
mod given;
mod info;
mod models;
mod parameters;
mod trace;
mod v2;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::{MethodRouter, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::models::Models;
use crate::page;
use error::ApiError;

/// Bytes of a request's body that are read before it is refused.
const MAX_BODY: usize = 16 << 10;

/// Every address and what answers there; `openapi.json` describes them.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<Models>>)> {
    let mut routes = vec![
        ("/generate", post(generate::generate)),
        ("/healthz", get(info::healthz)),
        ("/readyz", get(info::readyz)),
        ("/info", get(info::info)),
        ("/classes", get(info::classes)),
        ("/metrics", get(info::metrics)),
        ("/openapi.json", get(info::openapi)),
        ("/models", get(models::models)),
        ("/models/{name}/generate", post(generate::generate)),
        ("/models/{name}/info", get(info::info)),
        ("/models/{name}/classes", get(info::classes)),
        ("/models/{name}/readyz", get(info::model_readyz)),
    ];
    routes.extend(v2::routes());
    routes.extend(page::routes());
    routes
}

/// The routes of a server with these models. Can be driven in-process (`tower::ServiceExt::oneshot`) or served on a
/// socket.
pub fn router(models: Arc<Models>) -> Router {
    let routes = routes().into_iter().fold(Router::new(), |router, (path, route)| router.route(path, route));
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::custom(trace::panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&models), trace::trace))
        .with_state(models)
}

async fn not_found(uri: Uri) -> ApiError {
    let message = format!("there is nothing at {:?}; see GET / and GET /openapi.json", uri.path());
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_description_has_every_route_parameter_and_format() {
        let description: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let paths: Vec<_> = routes().into_iter().map(|(path, _)| path).collect();
        assert_eq!(keys(&description["paths"]), names(&paths));
        let generate = &description["paths"]["/generate"]["post"];
        let query = generate["parameters"].as_array().unwrap().iter().filter(|parameter| parameter["in"] == "query");
        let query: BTreeSet<_> = query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(query, names(&parameters::NAMES));
        let body = &generate["requestBody"]["content"]["application/json"]["schema"]["properties"];
        assert_eq!(keys(body), names(&parameters::NAMES));
        let offered: BTreeSet<_> = format::Format::ALL.map(|format| format.name().to_owned()).into();
        let listed = body["format"]["enum"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        assert_eq!(listed.collect::<BTreeSet<_>>(), offered);
        let types = format::Format::ALL.map(format::Format::media_type);
        assert_eq!(keys(&generate["responses"]["200"]["content"]), names(&types));
        assert_eq!(description["info"]["version"], json!(env!("CARGO_PKG_VERSION")));
    }
}
