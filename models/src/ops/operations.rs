//! Which code computes: the fused operations of this crate, or compositions of candle's.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;

/// Which code computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operations {
    /// The operations of this crate on the processor, and its kernels on a GPU.
    #[default]
    Fused,
    /// The compositions of candle's operations that they are held against: slow, but the same on any device.
    Plain,
}

/// Whether every device composes.
static PLAIN: AtomicBool = AtomicBool::new(false);

/// Sets which code computes from now on, in all threads. A graph goes backward by the operations that it was made of.
pub fn set_operations(operations: Operations) {
    PLAIN.store(operations == Operations::Plain, Ordering::Relaxed);
}

/// Whether tensors on `device` go through fused operations.
#[must_use]
pub fn fused(device: &Device) -> bool {
    device.is_cpu() && !PLAIN.load(Ordering::Relaxed)
}

/// Whether tensors on `device` go through the kernels of `drifting-kernels` where there is one.
#[must_use]
pub fn kernels(device: &Device) -> bool {
    // Where they are emulated, the processor does without its own operations.
    drifting_kernels::available(device) && (device.is_cpu() || !PLAIN.load(Ordering::Relaxed))
}

/// Whether blocks keep only their inputs.
static RECOMPUTE: AtomicBool = AtomicBool::new(false);

/// Sets whether the blocks of generators keep only their inputs for the way back and compute the rest once more, where operations
/// are not [`fused`]: a third more arithmetic in them, for less memory.
pub fn set_recomputation(recompute: bool) {
    RECOMPUTE.store(recompute, Ordering::Relaxed);
}

/// What [`set_recomputation`] said.
#[must_use]
pub fn recomputes() -> bool {
    RECOMPUTE.load(Ordering::Relaxed)
}
