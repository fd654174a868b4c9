//! Serves an exported generator over HTTP.
//!
//! An ONNX file with its manifest ([`Model`]) is loaded into an [`engine::Engine`] (ONNX Runtime, or rten in pure Rust),
//! which one thread owns. Requests become orders in a bounded queue; what waits is computed together. A server has one
//! or several [`Models`], each of which can be swapped while it runs. [`Server`] puts [`router`] on a socket; tests drive
//! it without one.

mod api;
pub mod bench;
mod credentials;
mod doctor;
pub mod engine;
mod gate;
mod listen;
pub mod load;
mod metrics;
mod model;
mod models;
mod page;
pub mod runtime;
mod server;
mod service;
mod spans;
mod statistics;
mod table;
#[cfg(test)]
mod testing;
mod warmup;
mod worker;

pub use api::{guarded, router};
pub use credentials::Credentials;
pub use doctor::{KitReport, LibraryReport, Report, doctor};
pub use gate::{Gate, GateSettings, KeysError, Origins};
pub use listen::{ConnectionLimits, TlsError, TlsSettings};
pub use model::{Model, ModelError, ModelProblem, OnnxError, Source};
pub use models::{ModelSettings, Models, NameError, Part, is_model_name};
pub use server::{ServeError, ServeSettings, Server};
pub use service::{Limits, ServiceError};
#[cfg(feature = "otlp")]
pub use spans::{Collector, CollectorError};
