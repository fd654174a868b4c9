//! The shape of a masked autoencoder, whose encoder gives the features of the drifting loss (paper appendix A.3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, ImageShape};

/// Residual block of the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaeBlock {
    /// Two 3x3 convolutions (official; paper appendix A.3 and Table 3).
    #[default]
    Basic,
    /// 1x1 to a quarter of the channels, 3x3, 1x1 back (the word in the paper's Table 8).
    Bottleneck,
}

/// Everything that decides the architecture of a masked autoencoder. Missing settings take the official code's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaeConfig {
    /// Shape of the images or latents.
    pub image: ImageShape,
    /// Side of the square of pixels that becomes one position of the grid: 1 for latents, 8 for 256x256 pixels.
    #[serde(default = "defaults::input_patch")]
    pub input_patch: usize,
    /// Channels of the stem and the first stage (C); the stages have C, 2C, 4C and 8C.
    pub base_channels: usize,
    /// Residual blocks of the four stages.
    #[serde(default = "defaults::blocks")]
    pub blocks: [usize; 4],
    /// Classes of the classifier head.
    pub classes: usize,
    /// Groups of every GroupNorm; where they do not divide the channels, the largest smaller number that does.
    #[serde(default = "defaults::norm_groups")]
    pub norm_groups: usize,
    /// Side, in positions of the grid, of the squares that are masked as one.
    #[serde(default = "defaults::mask_block")]
    pub mask_block: usize,
    /// Residual block.
    #[serde(default)]
    pub block: MaeBlock,
    /// GroupNorm after each stage, whose output is the stage's map and the next stage's input (official); off in the
    /// seed documents' encoder.
    #[serde(default = "defaults::yes")]
    pub stage_norm: bool,
    /// The stem's output is one of the maps (official); the paper's appendix A.5 and the seed documents do without.
    #[serde(default = "defaults::yes")]
    pub stem_tap: bool,
    /// Blocks of the decoder: 4 (official; the last one sees the stem) or 3 (the seed documents').
    #[serde(default = "defaults::up_blocks")]
    pub up_blocks: usize,
}

mod defaults {
    pub(super) fn input_patch() -> usize {
        1
    }
    pub(super) fn blocks() -> [usize; 4] {
        [3, 4, 6, 3]
    }
    pub(super) fn norm_groups() -> usize {
        32
    }
    pub(super) fn mask_block() -> usize {
        2
    }
    pub(super) fn up_blocks() -> usize {
        4
    }
    pub(super) fn yes() -> bool {
        true
    }
}

impl MaeConfig {
    /// The least that must be said; everything else as in the official code.
    #[must_use]
    pub fn new(image: ImageShape, input_patch: usize, base_channels: usize, classes: usize) -> Self {
        Self {
            image,
            input_patch,
            base_channels,
            blocks: defaults::blocks(),
            classes,
            norm_groups: defaults::norm_groups(),
            mask_block: defaults::mask_block(),
            block: MaeBlock::default(),
            stage_norm: true,
            stem_tap: true,
            up_blocks: defaults::up_blocks(),
        }
    }

    /// The published encoders: `mae_latent_256`, `mae_latent_640`, `mae_pixel_640` (paper Table 3, official release).
    #[must_use]
    pub fn published(name: &str) -> Option<Self> {
        let latent = ImageShape { channels: 4, height: 32, width: 32 };
        let pixel = ImageShape { channels: 3, height: 256, width: 256 };
        match name {
            "mae_latent_256" => Some(Self::new(latent, 1, 256, 1000)),
            "mae_latent_640" => Some(Self::new(latent, 1, 640, 1000)),
            "mae_pixel_640" => Some(Self::new(pixel, 8, 640, 1000)),
            _ => None,
        }
    }

    /// Rows and columns of the grid: of the mask, the stem's map and the first stage's.
    #[must_use]
    pub fn grid(&self) -> (usize, usize) {
        (self.image.height / self.input_patch, self.image.width / self.input_patch)
    }

    /// Numbers in one position of the grid.
    #[must_use]
    pub fn patch_len(&self) -> usize {
        self.input_patch * self.input_patch * self.image.channels
    }

    /// Channels of stage `stage` (0..4).
    #[must_use]
    pub fn channels(&self, stage: usize) -> usize {
        self.base_channels << stage
    }

    /// Rows and columns of stage `stage` (0..4): halved by each stage but the first, rounded up.
    #[must_use]
    pub fn stage_grid(&self, stage: usize) -> (usize, usize) {
        let (rows, columns) = self.grid();
        (rows.div_ceil(1 << stage), columns.div_ceil(1 << stage))
    }

    /// Groups of a GroupNorm over `channels`.
    #[must_use]
    pub fn groups(&self, channels: usize) -> usize {
        (1..=self.norm_groups.min(channels)).rev().find(|&groups| channels.is_multiple_of(groups)).unwrap_or(1)
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// Names the setting that does not fit and what would.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ImageShape { channels, height, width } = self.image;
        let sizes = [
            ("image.channels", channels, 1 << 12),
            ("image.height", height, 1 << 14),
            ("image.width", width, 1 << 14),
            ("input_patch", self.input_patch, 1 << 8),
            ("base_channels", self.base_channels, 1 << 14),
            ("classes", self.classes, 1 << 20),
            ("norm_groups", self.norm_groups, 1 << 14),
            ("mask_block", self.mask_block, 1 << 14),
        ];
        for (key, value, most) in sizes {
            require(key, (1..=most).contains(&value), || format!("{value} is not between 1 and {most}"))?;
        }
        require("input_patch", height % self.input_patch == 0 && width % self.input_patch == 0, || {
            format!("an image of {height}x{width} cannot be cut into squares of side {}", self.input_patch)
        })?;
        require("blocks", self.blocks.iter().all(|blocks| (1..=1024).contains(blocks)), || {
            format!("{:?}: each stage needs 1 to 1024 blocks", self.blocks)
        })?;
        require("base_channels", self.block == MaeBlock::Basic || self.base_channels.is_multiple_of(4), || {
            format!("bottleneck blocks need a number divisible by 4, not {}", self.base_channels)
        })?;
        require("up_blocks", matches!(self.up_blocks, 3 | 4), || {
            format!("{} is neither 4 (official) nor 3", self.up_blocks)
        })
    }
}

fn require(key: &'static str, holds: bool, problem: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { section: "mae", key, problem: problem() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(input_patch: usize) -> MaeConfig {
        MaeConfig::new(ImageShape { channels: 1, height: 28, width: 28 }, input_patch, 32, 10)
    }

    #[test]
    fn sides_are_halved_and_rounded_up() {
        let sides = |config: MaeConfig| (0..4).map(|stage| config.stage_grid(stage).0).collect::<Vec<_>>();
        assert_eq!(sides(grey(1)), [28, 14, 7, 4]);
        assert_eq!(sides(grey(2)), [14, 7, 4, 2]);
        assert_eq!(sides(MaeConfig::published("mae_pixel_640").unwrap()), [32, 16, 8, 4]);
    }

    #[test]
    fn groups_divide_the_channels() {
        let config = grey(1);
        assert_eq!([32, 64, 48, 40, 31, 37, 1].map(|channels| config.groups(channels)), [32, 32, 24, 20, 31, 1, 1]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        grey(4).validate().unwrap();
        let patch = grey(3).validate().unwrap_err();
        assert_eq!(patch.to_string(), "mae.input_patch: an image of 28x28 cannot be cut into squares of side 3");
        let of = |config: MaeConfig| config.validate().unwrap_err().key;
        assert_eq!(of(MaeConfig { up_blocks: 5, ..grey(1) }), "up_blocks");
        assert_eq!(of(MaeConfig { blocks: [1, 0, 1, 1], ..grey(1) }), "blocks");
        assert_eq!(of(MaeConfig { base_channels: 0, ..grey(1) }), "base_channels");
        assert_eq!(of(MaeConfig { block: MaeBlock::Bottleneck, base_channels: 6, ..grey(1) }), "base_channels");
        assert_eq!(of(MaeConfig { mask_block: 0, ..grey(1) }), "mask_block");
    }

    #[test]
    fn unsaid_settings_are_the_official_ones() {
        let said = r#"{"image": {"channels": 4, "height": 32, "width": 32}, "base_channels": 256, "classes": 1000}"#;
        let config: MaeConfig = serde_json::from_str(said).unwrap();
        assert_eq!(Some(config), MaeConfig::published("mae_latent_256"));
        let unknown = said.replace("classes", "clases");
        assert!(serde_json::from_str::<MaeConfig>(&unknown).unwrap_err().to_string().contains("clases"));
    }
}
