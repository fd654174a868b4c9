//! Lowers trained networks to ONNX and verifies the result.
//!
//! [`export`](export()) does both for a generator. [`model`](model()) makes the bytes alone, [`verify`](verify())
//! compares them with the generator through any number of engines, and [`graph`] is the builder underneath, which knows
//! nothing of generators.

mod error;
mod export;
pub mod graph;
mod lower;
mod model;
mod proto;
mod settings;
pub mod verify;

pub use error::{BoxError, Error, Result};
pub use export::{REPORT_FILE, export};
pub use model::{manifest, model};
pub use settings::{ExportSettings, ExternalData, Profile, SettingsError};
pub use verify::{Report, Runner, reference, verify};
