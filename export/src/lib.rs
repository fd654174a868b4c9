//! Lowers trained networks to ONNX and verifies the result.
//!
//! [`export`](export()) does both for a generator, and the decoder behind it; [`export_network`] for an encoder or a decoder
//! alone. [`model`](model()) makes the bytes alone, [`verify`](verify()) compares them with the generator through any number
//! of engines, [`targets`] puts a model where other servers look for it, and [`graph`] is the builder underneath, which
//! knows nothing of generators.

mod card;
mod error;
mod export;
pub mod graph;
mod lower;
mod model;
mod part;
mod proto;
mod settings;
mod subject;
pub mod targets;
pub mod verify;

pub use card::{CARD_FILE, SAMPLES_FILE};
pub use error::{BoxError, Error, Result};
pub use export::{Open, OpenNetwork, REPORT_FILE, export, export_network};
pub use model::{manifest, model, network_manifest, network_model, write_model, write_network};
pub use part::Part;
pub use settings::{ExportSettings, ExternalData, Profile, SettingsError};
pub use subject::{ImageModel, Network, OwnedModel};
pub use verify::{NetworkRunner, Report, Runner, network_reference, reference, verify, verify_network};
