//! Frozen networks whose maps are feature spaces.

use std::fmt::Debug;

use candle_core::Tensor;

use super::{FeatureError, MapShape, Statistic};

/// One map of an encoder and the keys that are taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Name of the map.
    pub name: String,
    /// Its sizes for one image.
    pub shape: MapShape,
    /// Names of its keys and what they take.
    pub keys: Vec<(String, Statistic)>,
}

impl MapInfo {
    /// A map with the paper's keys: raw, mean, std, and both over cells of 2 and 4 where they tile the map.
    #[must_use]
    pub fn with_all_statistics(name: &str, shape: MapShape) -> Self {
        Self::new(name, shape, &Statistic::of_map(shape))
    }

    /// A map with these keys, called by their statistic.
    #[must_use]
    pub fn new(name: &str, shape: MapShape, statistics: &[Statistic]) -> Self {
        let keys = statistics.iter().map(|statistic| (statistic.key_name(name), *statistic)).collect();
        Self { name: name.to_owned(), shape, keys }
    }
}

/// A frozen network. Its weights are constants, so gradients only go to the images.
pub trait Encoder: Debug {
    /// Its maps, in the order of [`encode`](Self::encode).
    fn maps(&self) -> &[MapInfo];

    /// The maps `[n, height, width, channels]`, contiguous f32, of images `[n, channels, height, width]`; part of the
    /// images' graph if they have one.
    ///
    /// # Errors
    /// Images of another shape.
    fn encode(&self, images: &Tensor) -> Result<Vec<Tensor>, FeatureError>;

    /// The files that the weights come from, with their SHA-256 in hexadecimal.
    fn weight_files(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
