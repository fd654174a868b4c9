//! Feature keys: the spaces in which samples drift, described by name (paper A.5).
//!
//! A key turns an image into T vectors ("locations") of D numbers: a [`Statistic`] of a map of a frozen [`Encoder`], or of
//! the image itself ([`PixelKey`]). Keys are computed in closed form, forward and back; a [`FeatureSpace`] holds the
//! encoders and the keys of a run, and gradients on maps go through the encoder by automatic differentiation.

mod cells;
mod convnext;
mod decoded;
mod encoder;
mod error;
mod kernels;
mod key;
mod mae;
mod pixel;
mod space;
mod statistic;
mod tensors;

pub use convnext::{ConvNextEncoder, convnext_maps};
pub use decoded::Decoded;
pub use encoder::{Encoder, MapInfo};
pub use error::FeatureError;
pub use key::{FeatureKey, available_keys, select_keys};
pub use mae::{MaeEncoder, mae_maps};
pub use pixel::PixelKey;
pub use space::{Encoded, FeatureSpace, Gradients, Views};
pub use statistic::{MapShape, Statistic};
pub use tensors::TensorGradients;
