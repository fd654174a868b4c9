//! The networks of drifting: layers, fused operations with gradients, weights.

mod error;
pub mod nn;
pub mod ops;
pub mod weights;

pub use error::{Error, Result};
