//! Exports of tiny generators in every setting, held against the network by engines in Rust and in Python.

mod network;
mod python;
mod settings;
