//! Lowers trained networks to ONNX and verifies the result.
//!
//! [`export`](export()) does both for a generator. [`model`](model()) makes the bytes alone, [`verify`](verify())
//! compares them with the generator through any number of engines, [`targets`] puts a model where other servers look for
//! it, and [`graph`] is the builder underneath, which knows nothing of generators.

mod card;
mod error;
mod export;
pub mod graph;
mod lower;
mod model;
mod proto;
mod settings;
pub mod targets;
pub mod verify;

pub use card::{CARD_FILE, SAMPLES_FILE};
pub use error::{BoxError, Error, Result};
pub use export::{Open, REPORT_FILE, export};
pub use model::{manifest, model, write_model};
pub use settings::{ExportSettings, ExternalData, Profile, SettingsError};
pub use verify::{Report, Runner, reference, verify};
