//! The built command as a server: under too much load, under faults, at its end, and before judges of other makers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test that cannot go on must fail")]
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod faults;
mod overload;
mod peer;
mod python;
mod running;
mod same;
mod schema;
mod stop;
