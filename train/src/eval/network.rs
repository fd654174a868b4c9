//! Networks that images are judged by.

use candle_core::Tensor;

use super::Result;

/// Images as a file holds them: whole numbers from 0 to 255.
#[derive(Clone, Debug)]
pub struct Pixels {
    /// `[n, channels, height, width]`, u8.
    pub images: Tensor,
}

/// What a network says of each image.
#[derive(Clone, Debug)]
pub struct Sight {
    /// `[n, features]`, f32.
    pub features: Tensor,
    /// `[n, classes]`, f32, before the softmax.
    pub logits: Tensor,
}

/// A frozen classifier in whose features sets of images are compared.
pub trait Network: Send + Sync {
    /// Its name in results: `inception`, `inception-torchvision`, `resnet56`, `lite0`, `judge`.
    fn name(&self) -> &str;
    /// SHA-256 of its weights.
    fn sha256(&self) -> &str;
    /// Length of the features.
    fn features(&self) -> usize;
    /// Number of classes of the logits.
    fn classes(&self) -> usize;
    /// How an image of 0..=255 becomes an input, in words: part of the contract of statistics.
    fn preparation(&self) -> String;
    /// The name under which a Fréchet distance in its features goes: `FID` for the published Inception weights alone, `fd-NAME` otherwise.
    fn distance_name(&self) -> String;
    /// Looks at images; each image's result is the same in any batch, within rounding.
    ///
    /// # Errors
    /// Images of a shape that it does not take.
    fn look(&self, images: &Pixels) -> Result<Sight>;
}
