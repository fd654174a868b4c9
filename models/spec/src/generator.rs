//! The shape of a generator (paper appendix A.2): what its weights are for, not the weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Channels, height and width of what a generator reads (noise) and writes (image or latent).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageShape {
    /// Channels: 1 grey, 3 colour, 4 for the latents of the Stable-Diffusion autoencoder.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// Numbers in one image.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether the image holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Normalisation before attention, MLP and the final layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// x / sqrt(mean(x^2) + 1e-6), as the official code.
    #[default]
    Rms,
    /// (x - mean) / sqrt(variance + 1e-6), as DiT.
    Layer,
}

/// Normalisation of queries and keys per head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QkNorm {
    /// RMSNorm with a learned gain (official).
    #[default]
    Rms,
    /// Division by the L2 norm (the seed documents' variant).
    L2,
    /// None.
    Off,
}

/// Rotary position embedding of queries and keys, base 10000, half-split rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rope {
    /// Positions 0.. over the whole sequence, register tokens included (official).
    #[default]
    #[serde(rename = "1d")]
    OneD,
    /// First half of the pairs by row, second half by column; register tokens are not rotated.
    #[serde(rename = "2d")]
    TwoD,
    /// None.
    #[serde(rename = "off")]
    Off,
}

/// Where the style embeddings live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StyleTables {
    /// One table per style token (official).
    #[default]
    Separate,
    /// One table for all of them.
    Shared,
}

/// How alpha enters the conditioning vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlphaEmbedding {
    /// 0.02 * RMSNorm(MLP(sinusoids of alpha)) (official).
    #[default]
    Sinusoidal,
    /// MLP(alpha), the seed documents' variant.
    Mlp,
}

/// The layer that writes the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinalLayer {
    /// Norm, adaLN shift and scale, linear, all zero at the start: the first output is exactly 0 (official).
    #[default]
    Adaln,
    /// Norm and linear with the ordinary initialisation (the seed documents' variant).
    Linear,
}

/// Everything that decides the architecture of a generator. Missing settings take the official code's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Shape of noise and image.
    pub image: ImageShape,
    /// Side of the square patch that becomes one token.
    pub patch: usize,
    /// Width of tokens and of the conditioning vector.
    pub hidden: usize,
    /// Transformer blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Classes.
    pub classes: usize,
    /// Style tokens: random indices that are summed into the conditioning vector; 0 turns style off.
    #[serde(default = "defaults::style_tokens")]
    pub style_tokens: usize,
    /// Entries of a style table.
    #[serde(default = "defaults::style_codes")]
    pub style_codes: usize,
    /// One table per style token or one for all.
    #[serde(default)]
    pub style_tables: StyleTables,
    /// Register (in-context conditioning) tokens put before the patches.
    #[serde(default = "defaults::registers")]
    pub registers: usize,
    /// Inner width of SwiGLU; default 32 * ceil(int(8 * hidden / 3) / 32).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlp_hidden: Option<usize>,
    /// Normalisation.
    #[serde(default)]
    pub norm: Norm,
    /// Learned gain (and bias, for LayerNorm) in the norms.
    #[serde(default = "defaults::yes")]
    pub norm_affine: bool,
    /// Normalisation of queries and keys.
    #[serde(default)]
    pub qk_norm: QkNorm,
    /// Rotary embedding.
    #[serde(default)]
    pub rope: Rope,
    /// Learned absolute positions of the patches, initialised to 2-D sines and cosines.
    #[serde(default = "defaults::yes")]
    pub positions: bool,
    /// Embedding of alpha.
    #[serde(default)]
    pub alpha_embedding: AlphaEmbedding,
    /// Final layer.
    #[serde(default)]
    pub final_layer: FinalLayer,
}

mod defaults {
    pub(super) fn style_tokens() -> usize {
        32
    }
    pub(super) fn style_codes() -> usize {
        64
    }
    pub(super) fn registers() -> usize {
        16
    }
    pub(super) fn yes() -> bool {
        true
    }
}

/// The largest size that a setting may have.
const LARGEST_SIZE: usize = 1 << 20;
/// Numbers in the largest image: an 8192 x 8192 grey one. A file that says more is refused before memory is asked for.
const LARGEST_IMAGE: usize = 1 << 26;
/// The longest sequence: attention over more is out of reach.
const MOST_TOKENS: usize = 1 << 16;

/// A network that cannot be built, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{section}.{key}: {problem}")]
pub struct ConfigError {
    /// The section of the settings: `generator`, `mae`.
    pub section: &'static str,
    /// The setting at fault.
    pub key: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl GeneratorConfig {
    /// The least that must be said; everything else as in the official code.
    #[must_use]
    pub fn new(image: ImageShape, patch: usize, hidden: usize, depth: usize, heads: usize, classes: usize) -> Self {
        Self {
            image,
            patch,
            hidden,
            depth,
            heads,
            classes,
            style_tokens: defaults::style_tokens(),
            style_codes: defaults::style_codes(),
            style_tables: StyleTables::default(),
            registers: defaults::registers(),
            mlp_hidden: None,
            norm: Norm::default(),
            norm_affine: true,
            qk_norm: QkNorm::default(),
            rope: Rope::default(),
            positions: true,
            alpha_embedding: AlphaEmbedding::default(),
            final_layer: FinalLayer::default(),
        }
    }

    /// A published size by name: `latent-b2`, `latent-l2`, `pixel-b16`, `pixel-l16` (paper Table 8).
    #[must_use]
    pub fn published(name: &str) -> Option<Self> {
        let latent = ImageShape { channels: 4, height: 32, width: 32 };
        let pixel = ImageShape { channels: 3, height: 256, width: 256 };
        match name {
            "latent-b2" => Some(Self::new(latent, 2, 768, 12, 12, 1000)),
            "latent-l2" => Some(Self::new(latent, 2, 1024, 24, 16, 1000)),
            "pixel-b16" => Some(Self::new(pixel, 16, 768, 12, 12, 1000)),
            "pixel-l16" => Some(Self::new(pixel, 16, 1024, 24, 16, 1000)),
            _ => None,
        }
    }

    /// Rows and columns of the patch grid.
    #[must_use]
    pub fn grid(&self) -> (usize, usize) {
        (self.image.height / self.patch, self.image.width / self.patch)
    }

    /// Patch tokens.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.grid().0 * self.grid().1
    }

    /// Numbers in one patch.
    #[must_use]
    pub fn patch_len(&self) -> usize {
        self.patch * self.patch * self.image.channels
    }

    /// Length of the sequence: register tokens and patches.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.registers + self.patches()
    }

    /// Width of one attention head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Inner width of SwiGLU.
    #[must_use]
    pub fn mlp_inner(&self) -> usize {
        self.mlp_hidden.unwrap_or_else(|| (8 * self.hidden / 3).div_ceil(32) * 32)
    }

    /// Style tables that exist.
    #[must_use]
    pub fn style_table_count(&self) -> usize {
        match self.style_tables {
            StyleTables::Separate => self.style_tokens,
            StyleTables::Shared => self.style_tokens.min(1),
        }
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// Names the setting that does not fit and what would.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require("hidden", self.hidden <= LARGEST_SIZE, || format!("{} is above {LARGEST_SIZE}", self.hidden))?;
        let sizes = [
            ("image.channels", self.image.channels),
            ("image.height", self.image.height),
            ("image.width", self.image.width),
            ("patch", self.patch),
            ("hidden", self.hidden),
            ("depth", self.depth),
            ("heads", self.heads),
            ("classes", self.classes),
            ("mlp_hidden", self.mlp_inner()),
        ];
        for (key, value) in sizes {
            let range = 1..=LARGEST_SIZE;
            require(key, range.contains(&value), || format!("{value} is not between 1 and {LARGEST_SIZE}"))?;
        }
        for (key, value) in
            [("style_tokens", self.style_tokens), ("style_codes", self.style_codes), ("registers", self.registers)]
        {
            require(key, value <= LARGEST_SIZE, || format!("{value} is above {LARGEST_SIZE}"))?;
        }
        let ImageShape { height, width, .. } = self.image;
        require("image", self.image.len() <= LARGEST_IMAGE, || {
            format!("{} numbers in one image, {LARGEST_IMAGE} are the most", self.image.len())
        })?;
        require("patch", height % self.patch == 0 && width % self.patch == 0, || {
            format!("an image of {height}x{width} cannot be cut into patches of side {}", self.patch)
        })?;
        require("registers", self.tokens() <= MOST_TOKENS, || {
            format!("{} tokens (registers and patches), {MOST_TOKENS} are the most", self.tokens())
        })?;
        require("heads", self.hidden.is_multiple_of(self.heads), || {
            format!("a hidden width of {} cannot be divided among {} heads", self.hidden, self.heads)
        })?;
        let head_dim = self.head_dim();
        match self.rope {
            Rope::OneD => require("rope", head_dim.is_multiple_of(2), || {
                format!("1-D rotation needs an even head dimension, hidden / heads is {head_dim}")
            })?,
            Rope::TwoD => require("rope", head_dim.is_multiple_of(4), || {
                format!("2-D rotation needs a head dimension divisible by 4, hidden / heads is {head_dim}")
            })?,
            Rope::Off => {}
        }
        require("positions", !self.positions || self.hidden.is_multiple_of(4), || {
            format!("absolute positions need a hidden width divisible by 4, not {}", self.hidden)
        })?;
        require("style_codes", self.style_tokens == 0 || self.style_codes > 0, || {
            "style tokens need at least one code to choose from".to_owned()
        })
    }
}

fn require(key: &'static str, holds: bool, problem: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { section: "generator", key, problem: problem() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> GeneratorConfig {
        GeneratorConfig::new(ImageShape { channels: 1, height: 28, width: 28 }, 4, 96, 2, 3, 10)
    }

    #[test]
    fn tokens_are_registers_and_patches_in_every_setting() {
        for registers in [0, 1, 16] {
            for patch in [1, 2, 4, 7, 14, 28] {
                let config = GeneratorConfig { registers, patch, ..tiny() };
                config.validate().unwrap();
                assert_eq!(config.tokens(), registers + (28 / patch) * (28 / patch));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let indivisible = GeneratorConfig { patch: 5, ..tiny() }.validate().unwrap_err();
        assert_eq!(indivisible.to_string(), "generator.patch: an image of 28x28 cannot be cut into patches of side 5");
        let odd = GeneratorConfig { hidden: 60, heads: 12, ..tiny() }.validate().unwrap_err();
        assert_eq!(odd.to_string(), "generator.rope: 1-D rotation needs an even head dimension, hidden / heads is 5");
        GeneratorConfig { hidden: 60, heads: 12, rope: Rope::Off, ..tiny() }.validate().unwrap();
        let two = GeneratorConfig { hidden: 60, heads: 10, rope: Rope::TwoD, ..tiny() }.validate().unwrap_err();
        assert_eq!(two.key, "rope");
        assert_eq!(GeneratorConfig { heads: 7, ..tiny() }.validate().unwrap_err().key, "heads");
        let vast = ImageShape { channels: 1 << 10, height: 1 << 20, width: 1 << 20 };
        let large = GeneratorConfig { image: vast, ..tiny() }.validate().unwrap_err();
        assert_eq!(
            large.to_string(),
            format!("generator.image: {} numbers in one image, 67108864 are the most", 1u64 << 50)
        );
        assert_eq!(GeneratorConfig { hidden: usize::MAX, ..tiny() }.validate().unwrap_err().key, "hidden");
        assert_eq!(GeneratorConfig { registers: usize::MAX, ..tiny() }.validate().unwrap_err().key, "registers");
        let fine = GeneratorConfig { patch: 1, image: ImageShape { channels: 1, height: 512, width: 512 }, ..tiny() };
        assert!(fine.validate().unwrap_err().to_string().contains("262160 tokens"));
    }

    #[test]
    fn swiglu_widths_are_the_official_ones() {
        assert_eq!(GeneratorConfig::published("latent-b2").unwrap().mlp_inner(), 2048);
        assert_eq!(GeneratorConfig::published("pixel-l16").unwrap().mlp_inner(), 2752);
    }
}
