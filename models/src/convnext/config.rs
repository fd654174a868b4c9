//! `config.json` of a published ConvNeXt-V2.

use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// The architecture of a ConvNeXt-V2 as its `config.json` says it; entries that are missing are those of the tiny network
/// that the library builds without any, and those that do not change what is computed are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConvNextConfig {
    /// Blocks of each stage.
    #[serde(default = "defaults::depths")]
    pub depths: [usize; 4],
    /// Width of each stage.
    #[serde(default = "defaults::widths")]
    pub hidden_sizes: [usize; 4],
    /// Side that images are resized to; the first stage's map has a fourth of it.
    #[serde(default = "defaults::side")]
    pub image_size: usize,
    #[serde(default = "defaults::colours")]
    num_channels: usize,
    #[serde(default = "defaults::patch")]
    patch_size: usize,
    #[serde(default = "defaults::gelu")]
    hidden_act: String,
}

mod defaults {
    pub(super) fn depths() -> [usize; 4] {
        [3, 3, 9, 3]
    }
    pub(super) fn widths() -> [usize; 4] {
        [96, 192, 384, 768]
    }
    pub(super) fn side() -> usize {
        224
    }
    pub(super) fn colours() -> usize {
        3
    }
    pub(super) fn patch() -> usize {
        super::PATCH
    }
    pub(super) fn gelu() -> String {
        "gelu".to_owned()
    }
}

/// Side of the patches that the first layer reads.
pub(super) const PATCH: usize = 4;

impl ConvNextConfig {
    /// Four stages for images of side `image_size`.
    #[must_use]
    pub fn new(depths: [usize; 4], hidden_sizes: [usize; 4], image_size: usize) -> Self {
        let (num_channels, patch_size, hidden_act) = (defaults::colours(), defaults::patch(), defaults::gelu());
        Self { depths, hidden_sizes, image_size, num_channels, patch_size, hidden_act }
    }

    /// The Base size of the paper's pixel models.
    #[must_use]
    pub fn base() -> Self {
        Self::new([3, 3, 27, 3], [128, 256, 512, 1024], defaults::side())
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// Names the file, and the entry that asks for what is not there.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let file = |problem: String| Error::File { path: path.to_owned(), problem };
        let config: Self = serde_json::from_slice(&bytes).map_err(|error| file(error.to_string()))?;
        config.check().map_err(file)?;
        Ok(config)
    }

    /// Side of each stage's map.
    #[must_use]
    pub fn sides(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|stage| self.image_size / (PATCH << stage))
    }

    /// Says what does not fit.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.num_channels != 3 || self.patch_size != PATCH {
            return Err(format!(
                "num_channels {} and patch_size {} are not known, 3 and {PATCH} are",
                self.num_channels, self.patch_size
            ));
        }
        if self.hidden_act != "gelu" {
            return Err(format!("hidden_act: {} is not known, gelu is", self.hidden_act));
        }
        let whole = |value: &usize| (1..=1 << 16).contains(value);
        if !self.depths.iter().chain(&self.hidden_sizes).all(whole) {
            return Err("depths and hidden_sizes must lie between 1 and 65536".to_owned());
        }
        // The last stage's maps need more than one position to have a deviation.
        if !(64..=4096).contains(&self.image_size) {
            return Err(format!("image_size: {} is not between 64 and 4096", self.image_size));
        }
        Ok(())
    }
}
