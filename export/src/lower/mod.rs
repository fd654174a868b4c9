//! Networks as graphs, one file per network.

mod attention;
mod autoencoder;
mod conditioning;
mod generator;
mod layers;
mod mae;
mod pixels;
mod rotary;

pub(crate) use autoencoder::decoder;
pub(crate) use generator::{DECODER, generator};
pub(crate) use mae::encoder;
