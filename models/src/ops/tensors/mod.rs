//! The operations of this folder in tensor operations with ways back of their own, for devices other than the processor.
//!
//! candle would keep every intermediate result for its way back, add zeros to each gradient, and compute those of constants too. Here an
//! operation keeps its inputs, and goes back by its formula. candle-nn's operations, which have kernels but no gradients, do what they
//! can.

pub(super) mod attention;
pub(super) mod conv;
mod gate;
mod group_norm;
pub(super) mod linear;
mod norm;
pub(super) mod product;
pub(super) mod reversible;
mod swiglu;

pub(super) use attention::attention;
pub use conv::PATCHES;
pub(super) use conv::convolution;
pub(super) use gate::gated_add;
pub(super) use group_norm::group_norm;
pub(super) use norm::norm;
pub(super) use swiglu::swiglu;
