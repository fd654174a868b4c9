//! Layers: named parameters and the computation over them.

mod params;

pub use params::{Builder, Init, Params, Source};
