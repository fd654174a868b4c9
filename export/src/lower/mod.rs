//! Networks as graphs, one file per network.

mod attention;
mod conditioning;
mod generator;
mod layers;
mod rotary;

pub(crate) use generator::generator;
