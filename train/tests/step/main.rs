//! Features and training steps, held against the authors' program and against each other.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

mod decoded;
mod exact;
mod features;
mod golden;
mod memory;
mod streaming;
mod support;

/// How far a parameter may be from the authors' after their step, relative to the largest of its tensor.
const AFTER_STEP: f64 = 1e-3;

/// How many times the rounding of the reference's formula, measured once, a number may be away.
const SPREADS: f64 = 2.0;

/// How far a gradient of groups that are worked a few at a time may be from that of all at once, relative to its largest number.
const STREAMED: f64 = 1e-5;

/// What the steps are computed on.
fn device() -> candle_core::Device {
    candle_core::Device::Cpu
}
