//! The objective against golden numbers, against a plain twin of itself, and in its properties.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

mod golden;
mod properties;
mod reference;
mod rounded;
mod support;
mod twin;
