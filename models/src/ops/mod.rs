//! Fused tensor operations with gradients.
//!
//! candle's own fused norms, softmax and rotary embedding silently drop gradients, and its composed ones pass over memory
//! many times. Each operation here is one file: the public function, its CPU kernel with the analytic backward, and a
//! composition of plain candle operations (`plain`) that the tests hold the kernel against. GPUs have the kernels in `gpu`. Where there is
//! none, any device has the versions in `tensors`, or `plain` where it would do; [`set_operations`] makes all use them.

mod activation;
mod attention;
mod block;
mod chunks;
mod concat;
mod conv;
mod conv_chain;
mod embedding;
mod gate;
mod gpu;
mod group_norm;
mod handover;
mod inner;
pub mod lanes;
mod layer_norm;
mod linear;
pub mod matmul;
mod max_pool;
mod norm;
mod operations;
mod peak;
mod positions;
mod resize;
pub mod rounded_rows;
pub mod row_products;
pub mod simd;
mod storage;
mod swiglu;
mod tensors;
#[cfg(test)]
mod testing;
mod transpose;

pub use activation::{gelu, silu};
pub use attention::{Attention, attention};
pub use block::{BlockSettings, BlockSizes, block, block_recomputed, is_one_operation};
pub use concat::{concat_channels, line_channels};
pub use conv::{Conv, Padding, conv2d};
pub use conv_chain::{ConvChain, ConvNorm, Skip, conv_chain};
pub use embedding::sum_of_rows;
pub use gate::gated_add;
pub use group_norm::{GroupNorm, group_norm};
pub use handover::Handover;
pub use inner::inner;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use max_pool::{MaxPool, max_pool};
pub use norm::{Modulation, norm};
pub use operations::{Operations, fused, kernels, recomputes, set_operations, set_recomputation};
pub use peak::{bandwidth, peak};
pub use positions::{Rotation, sine_cosine};
pub use resize::{resize_bilinear, resize_bilinear_antialias, upsample_nearest2};
pub use storage::{PIECE, Values, written, written_across};
pub use swiglu::swiglu;
pub use tensors::PATCHES;
pub use transpose::permute;

/// Added to mean squares and variances before the root (method of the official code).
pub const EPSILON: f32 = 1e-6;
