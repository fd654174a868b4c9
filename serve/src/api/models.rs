//! `GET /models`, and whether one of them is ready.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::models::{Models, Slot};

/// What there is to choose from, the default model first.
pub(super) async fn models(State(models): State<Arc<Models>>) -> Json<Value> {
    let default = &models.default_slot().name;
    let list: Vec<_> = models.slots().map(|slot| about(slot, slot.name == *default, models.is_draining())).collect();
    Json(json!({ "models": list }))
}

fn about(slot: &Slot, default: bool, draining: bool) -> Value {
    let (service, condition) = (slot.service(), slot.condition().clone());
    let manifest = &service.model.manifest;
    let state = match () {
        () if !service.worker.is_running() => "stopped",
        () if draining => "draining",
        () if condition.reloading => "reloading",
        () => "ready",
    };
    json!({
        "name": slot.name,
        "default": default,
        "state": state,
        "error": condition.error,
        "sha256": service.model.sha256,
        "classes": manifest.classes.len(),
        "alpha": manifest.alpha,
        "image": service.image,
    })
}
