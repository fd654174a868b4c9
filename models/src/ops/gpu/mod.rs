//! The operations of this folder by kernels: on a GPU, or emulated.
//!
//! Like those in [`tensors`](super::tensors), whose products they share, they keep little and go back by formulas of their own. Each is
//! made of a result and of what makes gradients of its gradient ([`Back`](super::tensors::reversible::Back)); so a block, or a chain of convolutions, goes back from one
//! to the next by itself. candle's engine would add zeros to every gradient in between.

mod attention;
mod block;
mod conv_chain;
mod convolution;
mod gate;
mod group_norm;
mod norm;
mod patches;
mod swiglu;
#[cfg(all(test, feature = "emulator"))]
mod tests;

use candle_core::{D, DType, Result, Tensor};
use drifting_kernels::{Argument, Kernel, Launch, Source, WARP, launch, source};

use super::matmul::{Precision, precision};

pub(super) use attention::{attention, fits as attention_fits};
pub(super) use block::block;
pub(super) use conv_chain::conv_chain;
pub(super) use convolution::{by_cudnn, digits};
pub(super) use gate::gated_add;
pub(super) use group_norm::group_norm;
pub(super) use norm::norm;
pub(super) use patches::patches;
pub(super) use swiglu::swiglu;

/// A gradient that was asked for.
fn there(gradient: Option<Tensor>) -> Result<Tensor> {
    match gradient {
        Some(gradient) => Ok(gradient),
        None => candle_core::bail!("a gradient is missing"),
    }
}

/// Adds a bias to each row of what was made just now.
pub(super) fn add_bias(y: &Tensor, bias: &Tensor) -> Result<()> {
    let columns = y.dim(D::Minus1)?;
    let bias = bias.detach().contiguous()?;
    let [] = launch(
        source::ROWS.kernel("add_bias"),
        Launch::over(y.elem_count(), THREADS),
        y.device(),
        [],
        &[
            Argument::Changed(y),
            Argument::Input(&bias),
            Argument::Count(y.elem_count() / columns.max(1)),
            Argument::Count(columns),
        ],
    )?;
    Ok(())
}

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
