//! The networks of drifting: layers, fused operations with gradients, weights.

mod error;
mod generator;
pub mod nn;
pub mod ops;
pub mod weights;

pub use error::{Error, Result};
pub use generator::{Generator, parameter_count};
