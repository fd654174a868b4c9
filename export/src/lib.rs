//! Lowers trained networks to ONNX and verifies the result.

mod error;
pub mod graph;
mod lower;
mod model;
mod proto;

pub use error::{Error, Result};
pub use model::{manifest, model};
