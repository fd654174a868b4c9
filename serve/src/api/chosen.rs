//! Which of the server's models a request is about.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::error::{Allowed, ApiError};
use super::parameters::nearest;
use crate::models::{Models, Slot};
use crate::service::Service;

/// The parameter of a route that holds a model's name.
const NAME: &str = "name";

/// The service of the model that the address names, or of the default one on routes without a name. It stays the same
/// for the whole request, whatever takes its place meanwhile.
pub(super) struct Chosen(pub(super) Arc<Service>);

impl FromRequestParts<Arc<Models>> for Chosen {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, models: &Arc<Models>) -> Result<Self, ApiError> {
        let parameters = RawPathParams::from_request_parts(parts, models).await;
        // Only bytes that are no text are refused there, and no model has them in its name.
        let parameters = parameters.map_err(|_| unknown(models, "\u{fffd}"))?;
        let slot = match parameters.iter().find(|(key, _)| *key == NAME) {
            Some((_, name)) => models.slot(name).ok_or_else(|| unknown(models, name))?,
            None => models.default_slot(),
        };
        Ok(Self(slot.service()))
    }
}

/// 404 with the name that was probably meant.
fn unknown(models: &Models, name: &str) -> ApiError {
    let known = || models.slots().map(|slot: &Slot| slot.name.as_str());
    let hint = nearest(name, known()).map(|known| format!("; did you mean {known:?}?")).unwrap_or_default();
    let message = format!("there is no model {name:?}{hint}");
    let mut error = ApiError::new(StatusCode::NOT_FOUND, "unknown_model", message);
    error.details.parameter = Some(NAME.to_owned());
    error.with_allowed(Allowed::OneOf(known().map(str::to_owned).collect()))
}
