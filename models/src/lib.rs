//! The networks of drifting: layers, fused operations with gradients, weights.

pub mod autoencoder;
pub mod convnext;
pub mod device;
pub mod efficientnet;
mod error;
mod generator;
pub mod inception;
mod judgement;
mod mae;
pub mod nn;
pub mod ops;
pub mod profile;
pub mod resnet;
#[cfg(test)]
mod testing;
pub mod weights;

pub use error::{Error, Result};
pub use generator::{Generator, parameter_count};
pub use judgement::Judgement;
pub use mae::{FeatureMap, INPUT_MAP, Mae, MaeFlops, Reconstruction, mae_flops, mae_map_shapes, mae_parameter_count};
