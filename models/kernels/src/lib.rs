//! CUDA kernels: operations of networks, of the objective and of the optimizer in one pass over memory each.
//!
//! Each file of `cu/` is one idea, and this crate knows nothing of what it means: [`launch`] runs a [`Kernel`] of it over tensors. With the
//! feature `cuda` that is a GPU. With the feature `emulator` the same source runs on the processor, which is slow, but tells of
//! races, of barriers that not all threads reach and of writes out of bounds; so kernels are tested where there is no GPU.
//!
//! Kernels add up in an order that depends on sizes alone: the same numbers give the same sums.

#![cfg_attr(not(any(feature = "cuda", feature = "emulator")), allow(dead_code, reason = "kernels run nowhere"))]

mod argument;
mod convolution;
#[cfg(feature = "emulator")]
pub mod emulator;
#[cfg(feature = "cuda")]
mod gpu;
mod kernel;
mod products;

pub use argument::{Argument, Output};
pub use convolution::{Convolution, Digits};
pub use kernel::{Kernel, Source, source};
pub use products::product;

use candle_core::{Device, Result, Tensor, bail};

/// Threads of a warp.
pub const WARP: usize = 32;

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y and z.
    pub grid: [usize; 3],
    /// Threads of a block, a multiple of [`WARP`].
    pub threads: usize,
    /// Bytes of shared memory of a block.
    pub shared: usize,
}

impl Launch {
    /// Blocks of `threads` threads, so that there is one for each of `items`.
    #[must_use]
    pub fn over(items: usize, threads: usize) -> Self {
        Self { grid: [items.div_ceil(threads), 1, 1], threads, shared: 0 }
    }

    /// Blocks of four warps, so that there is a warp for each of `rows`.
    #[must_use]
    pub fn rows(rows: usize) -> Self {
        Self { grid: [rows.div_ceil(4), 1, 1], threads: 4 * WARP, shared: 0 }
    }
}

/// What every GPU can: blocks along y and z, threads of a block, bytes of its shared memory.
const MOST: [usize; 3] = [65_535, 1024, 48 << 10];

impl Launch {
    /// Refuses what a GPU would.
    fn check(self, kernel: Kernel) -> Result<()> {
        let Self { grid: [x, y, z], threads, shared } = self;
        let [blocks, most_threads, most_shared] = MOST;
        let fits = threads.is_multiple_of(WARP)
            && (1..=most_threads).contains(&threads)
            && shared <= most_shared
            && i32::try_from(x).is_ok()
            && y.max(z) <= blocks;
        if fits { Ok(()) } else { bail!("kernel {}: no GPU has {self:?}", kernel.function()) }
    }
}

/// Whether kernels run on tensors of `device`.
#[must_use]
pub fn available(device: &Device) -> bool {
    match device {
        Device::Cuda(_) => cfg!(feature = "cuda"),
        #[cfg(feature = "emulator")]
        Device::Cpu => emulator::on(),
        _ => false,
    }
}

/// Runs `kernel` and gives what it made. The kernel's parameters are pointers to the outputs, then the arguments.
///
/// # Errors
/// A device without kernels, tensors on another device or of a type that kernels do not know, what CUDA says.
pub fn launch<const N: usize>(
    kernel: Kernel,
    launch: Launch,
    device: &Device,
    outputs: [Output<'_>; N],
    arguments: &[Argument<'_>],
) -> Result<[Tensor; N]> {
    launch.check(kernel)?;
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => gpu::launch(kernel, launch, device, outputs, arguments),
        #[cfg(feature = "emulator")]
        Device::Cpu => emulator::launch(kernel, launch, outputs, arguments),
        _ => {
            let (_, _) = (outputs, arguments);
            bail!("kernel {}: no kernels for {:?}", kernel.function(), device.location())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_that_no_gpu_takes_are_refused() {
        let fits = Launch { grid: [1 << 20, 65_535, 1], threads: 1024, shared: 48 << 10 };
        fits.check(source::ROWS.kernel("add_bias")).unwrap();
        let refused = [
            Launch { threads: 0, ..fits },
            Launch { threads: 33, ..fits },
            Launch { threads: 1056, ..fits },
            Launch { shared: (48 << 10) + 1, ..fits },
            Launch { grid: [1 << 31, 1, 1], ..fits },
            Launch { grid: [1, 65_536, 1], ..fits },
        ];
        for launch in refused {
            let error = launch.check(source::ROWS.kernel("add_bias")).unwrap_err().to_string();
            assert!(error.starts_with("kernel add_bias: no GPU has Launch"), "{error}");
        }
    }
}
