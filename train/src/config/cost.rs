//! Arithmetic and memory of the networks, counted from their sizes.
//!
//! Multiply-accumulates (MAC) are those of matrix products and convolutions; norms, activations and the drift itself are
//! left out; a generator's are [`GeneratorConfig::macs`]. Numbers are those that stay in memory from a forward pass to its
//! backward pass in this implementation.

use drifting_spec::{GeneratorConfig, MaeBlock, MaeConfig};

/// What the way back needs of a block of the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// What a fused block keeps.
    Fused,
    /// What its single tensor operations keep.
    Operations,
    /// Its inputs alone; the rest is computed once more, block by block.
    Inputs,
}

/// Numbers of one generated image that the backward pass needs.
#[must_use]
pub fn generator_activations(config: &GeneratorConfig, kept: Kept) -> u64 {
    let (depth, hidden, inner) = (config.depth as u64, config.hidden as u64, config.mlp_inner() as u64);
    // Two norms, q k v, two branches before and after their gates, and the MLP inside.
    let operations = 10 * hidden + 3 * inner;
    let blocks = match kept {
        Kept::Fused => depth * (10 * hidden + 2 * inner),
        Kept::Operations => depth * operations,
        Kept::Inputs => depth * hidden + operations,
    };
    config.tokens() as u64 * (blocks + 4 * hidden) + 2 * config.image.len() as u64
}

/// Numbers that the attention of one block, the largest operation of a generator, needs on its way back for one image where
/// every step of it is a tensor: weights and their gradients on both sides of the softmax; queries, keys and values by heads, turned,
/// with their gradients; and the sum of those.
#[must_use]
pub fn attention_scratch(config: &GeneratorConfig) -> u64 {
    let tokens = config.tokens() as u64;
    tokens * (4 * config.heads as u64 * tokens + 24 * config.hidden as u64)
}

/// Numbers in the patches of the largest convolution, of one image.
#[must_use]
pub fn patches(config: &MaeConfig) -> u64 {
    (0..config.blocks.len()).map(|stage| 9 * map(config, stage)).max().unwrap_or(0)
}

/// Multiply-accumulates of ConvNeXt-V2 Base on one image of 224 x 224, which every image is scaled to (method section 8).
pub const CONVNEXT_BASE_MACS: u64 = 15_350_000_000;

/// Numbers of the encoder that the gradient with respect to one image needs.
///
/// A convolution keeps its output and what its norm makes of it; a block also its sum and what ReLU makes of that, a stage
/// what its norm does.
#[must_use]
pub fn encoder_activations(config: &MaeConfig) -> u64 {
    let convolutions = match config.block {
        MaeBlock::Basic => 2,
        MaeBlock::Bottleneck => 3,
    };
    let stage = |(stage, &blocks): (usize, &usize)| {
        let projection = if stage == 0 { 0 } else { 2 };
        map(config, stage) * (blocks as u64 * (2 * convolutions + 2) + projection + u64::from(config.stage_norm))
    };
    2 * map(config, 0) + config.blocks.iter().enumerate().map(stage).sum::<u64>()
}

/// Numbers of the decoder that its backward pass needs for one image: of each up block the joined maps, their norm, and
/// two convolutions with theirs.
#[must_use]
pub fn decoder_activations(config: &MaeConfig) -> u64 {
    let up = |(from, to): (usize, usize)| {
        let positions = map(config, to) / config.channels(to) as u64;
        2 * positions * (config.channels(from) + config.channels(to)) as u64 + 4 * map(config, to)
    };
    let ups = [(3, 2), (2, 1), (1, 0), (0, 0)].into_iter().take(config.up_blocks);
    2 * map(config, 3) + ups.map(up).sum::<u64>()
}

/// Numbers of the map of a stage.
fn map(config: &MaeConfig, stage: usize) -> u64 {
    let (rows, columns) = config.stage_grid(stage);
    (rows * columns * config.channels(stage)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_computed_again_is_not_kept() {
        let network = GeneratorConfig::published("latent-b2").unwrap();
        let numbers = |kept| generator_activations(&network, kept);
        assert!(numbers(Kept::Operations) > numbers(Kept::Fused));
        // Of twelve blocks, the inputs of all and one whole.
        assert!(6 * numbers(Kept::Inputs) < numbers(Kept::Operations));
    }

    #[test]
    fn activations_grow_with_what_is_kept() {
        let basic = MaeConfig::published("mae_latent_256").unwrap();
        // Stem, 3 blocks of 2 convolutions, the stage's norm: 2 + 3 * 6 + 1 maps of the first stage alone.
        assert!(encoder_activations(&basic) > 21 * 1024 * 256 && encoder_activations(&basic) < 60 * 1024 * 256);
        let bottleneck = MaeConfig { block: MaeBlock::Bottleneck, up_blocks: 3, ..basic.clone() };
        assert!(encoder_activations(&bottleneck) > encoder_activations(&basic));
        assert!(decoder_activations(&bottleneck) < decoder_activations(&basic));
    }
}
