//! The operations of this folder by kernels: on a GPU, or emulated.
//!
//! Like those in [`tensors`](super::tensors), whose products they share, they keep little and go back by formulas of their own.

mod attention;
mod conv;
mod gate;
mod group_norm;
mod norm;
mod swiglu;
#[cfg(all(test, feature = "emulator"))]
mod tests;

use candle_core::{DType, Result, Tensor};
use drifting_kernels::{Kernel, Launch, Source, WARP};

use super::matmul::{Precision, precision};

pub(super) use attention::{attention, fits as attention_fits};
pub(super) use conv::convolution;
pub(super) use gate::gated_add;
pub(super) use group_norm::group_norm;
pub(super) use norm::norm;
pub(super) use swiglu::swiglu;

/// Threads of a block where each has a number to itself.
const THREADS: usize = 256;

/// Whether factors of products are narrow.
fn narrow() -> bool {
    precision() == Precision::Bf16
}

/// The kernel that makes factors of products: one of two, by their type.
fn of_factors(source: &'static Source, [wide, small]: [&'static str; 2]) -> Kernel {
    source.kernel(if narrow() { small } else { wide })
}

/// What a kernel made as a factor, as products take it: candle has none of bfloat16 on the processor.
fn factored(x: Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.to_dtype(DType::F32) } else { Ok(x) }
}

/// Blocks that take 32 columns of an image each, warps of which take some of its rows and share two numbers for each thread.
fn columns_of_images(images: usize, columns: usize) -> Launch {
    Launch { grid: [images, columns.div_ceil(WARP), 1], threads: 8 * WARP, shared: 2 * 4 * 8 * WARP }
}
