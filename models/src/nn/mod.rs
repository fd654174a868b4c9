//! Layers: named parameters and the computation over them.

pub(crate) mod frozen;
mod linear;
mod norm;
mod params;

pub use linear::Linear;
pub use norm::ModulatedNorm;
pub use params::{Builder, Init, Params, Source};
