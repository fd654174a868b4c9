//! Features and training steps, held against the authors' program and against each other.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

mod decoded;
mod features;
mod golden;
mod memory;
mod streaming;
mod support;
