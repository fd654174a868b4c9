//! The golden step and streamed groups as a device other than the processor computes them: in plain tensor operations on the processor, unless
//! `DRIFTING_TEST_DEVICE` says otherwise. `cuda` computes by kernels, on a GPU; `emulated`, with the feature `emulator`, by the same kernels on
//! the processor.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

use std::sync::OnceLock;

use candle_core::Device;
use drifting_models::ops::{Operations, set_operations};
use drifting_train::config::DeviceName;

#[path = "../step/exact.rs"]
mod exact;
#[path = "../step/golden.rs"]
mod golden;
mod ranks;
#[path = "../step/streaming.rs"]
mod streaming;
#[path = "../step/support.rs"]
mod support;

/// How far a parameter may be from the authors' after their step, relative to the largest of its tensor. The first step of AdamW
/// follows the signs of gradients, also of those that are zero but for rounding.
const AFTER_STEP: f64 = 2e-3;

/// How many times the rounding of the reference's formula, measured once, a number may be away: here features are rounded otherwise too.
const SPREADS: f64 = 4.0;

/// How far a gradient of groups that are worked a few at a time may be from that of all at once, relative to its largest number:
/// products of other numbers of rows add in another order.
const STREAMED: f64 = 5e-5;

/// What the steps are computed on.
fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let open = || {
        let name = std::env::var("DRIFTING_TEST_DEVICE").unwrap_or("cpu".to_owned());
        #[cfg(feature = "emulator")]
        if name == "emulated" {
            set_operations(Operations::Plain);
            drifting_kernels::emulator::emulate_everywhere();
            return Device::Cpu;
        }
        if name == "cpu" {
            set_operations(Operations::Plain);
        }
        name.parse::<DeviceName>().unwrap().open().unwrap()
    };
    DEVICE.get_or_init(open).clone()
}
