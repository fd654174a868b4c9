//! What a classifier says of images.

use candle_core::Tensor;

/// Features and logits of each image.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Mean of the last map over space, `[n, features]`.
    pub features: Tensor,
    /// `[n, classes]`, with bias.
    pub logits: Tensor,
}
