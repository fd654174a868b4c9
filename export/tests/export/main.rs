//! Exports of tiny generators in every setting, held against the network by engines in Rust and in Python.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers of tests are tests"
)]

mod network;
mod networks;
mod python;
mod settings;
mod targets;
mod tensorrt;
mod versions;
