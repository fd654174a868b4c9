//! The HTTP interface. `docs/http-api.md` describes it for its users.

mod authorize;
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
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::gate::Gate;
use crate::models::Models;
use crate::page;
use error::ApiError;

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
        ("/page/{file}", get(part_of_page)),
    ];
    routes.extend(v2::routes());
    routes.extend(page::routes());
    routes
}

/// The routes of a server with these models, open to everybody. Can be driven in-process
/// (`tower::ServiceExt::oneshot`) or served on a socket.
pub fn router(models: Arc<Models>) -> Router {
    guarded(models, &Arc::default())
}

/// The routes of a server with these models, of which `gate` tells who may use them.
pub fn guarded(models: Arc<Models>, gate: &Arc<Gate>) -> Router {
    let routes = routes().into_iter().fold(Router::new(), |router, (path, route)| router.route(path, route));
    let routes = routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(models.limits.max_body))
        .layer(CatchPanicLayer::custom(trace::panicked))
        // Around all of them, so that no route can be forgotten.
        .layer(middleware::from_fn_with_state(Arc::clone(gate), authorize::authorize))
        .layer(middleware::from_fn_with_state(Arc::clone(&models), trace::trace))
        .with_state(models);
    gate.open_to_origins(routes)
}

/// What the pages load.
async fn part_of_page(uri: Uri) -> Result<Response, ApiError> {
    match uri.path().rsplit('/').next().and_then(page::part) {
        Some(part) => Ok(part),
        None => Err(not_found(uri).await),
    }
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
    use crate::gate::GateSettings;

    /// Asks a locked server without a key.
    async fn status(app: &Router, method: Method, path: &str) -> StatusCode {
        let request = axum::http::Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
        tower::ServiceExt::oneshot(app.clone(), request).await.unwrap().status()
    }

    /// Goes over the list that the router is made of, so that a route that comes later is tried, too.
    #[tokio::test]
    async fn every_route_but_health_needs_a_key_once_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.txt");
        std::fs::write(&keys, "an-unguessable-key").unwrap();
        let gate = Gate::open(&GateSettings { keys: Some(keys), ..GateSettings::default() }).unwrap();
        let app = guarded(crate::testing::models(), &Arc::new(gate));
        let mut open = BTreeSet::new();
        for (path, _) in routes() {
            // The only model's name and version, or a file, where there is a place for them.
            let address = path.replace("{name}", "tiny").replace("{version}", "1").replace("{file}", "page.js");
            assert!(!address.contains('{'), "{path}");
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS] {
                if status(&app, method, &address).await != StatusCode::UNAUTHORIZED {
                    open.insert(path);
                }
            }
        }
        assert_eq!(open.into_iter().collect::<Vec<_>>(), ["/healthz", "/readyz"]);
    }

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
