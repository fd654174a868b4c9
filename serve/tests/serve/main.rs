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
mod deploy;
mod engines;
mod fixture;
mod formats;
mod hostile;
mod load;
mod metrics;
mod openapi;
mod page;
mod socket;
mod state;
#[cfg(feature = "tensorrt")]
mod tensorrt;
