//! The server as its clients see it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy only spares functions marked #[test]"
)]

mod api;
mod body;
mod client;
mod connections;
mod cors;
mod deploy;
mod engines;
mod fixture;
mod formats;
mod hostile;
mod keys;
mod load;
mod metrics;
mod models;
mod openapi;
mod page;
mod reload;
mod replicas;
mod socket;
#[cfg(feature = "otlp")]
mod spans;
mod state;
#[cfg(feature = "tensorrt")]
mod tensorrt;
mod tls;
mod v2;
