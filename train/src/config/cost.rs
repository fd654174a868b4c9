//! Arithmetic and memory of the networks, counted from their sizes.
//!
//! Multiply-accumulates (MAC) are those of matrix products and convolutions; norms, activations and the drift itself are
//! left out; a generator's are [`GeneratorConfig::macs`]. Numbers are those that stay in memory from a forward pass to its backward pass in this implementation.

use drifting_spec::{GeneratorConfig, MaeBlock, MaeConfig};

/// Numbers of one generated image that the backward pass needs.
#[must_use]
pub fn generator_activations(config: &GeneratorConfig) -> u64 {
    let block = 10 * config.hidden as u64 + 2 * config.mlp_inner() as u64;
    tokens(config) * (config.depth as u64 * block + 4 * config.hidden as u64) + 2 * config.image.len() as u64
}

fn tokens(config: &GeneratorConfig) -> u64 {
    config.tokens() as u64
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
    fn activations_grow_with_what_is_kept() {
        let basic = MaeConfig::published("mae_latent_256").unwrap();
        // Stem, 3 blocks of 2 convolutions, the stage's norm: 2 + 3 * 6 + 1 maps of the first stage alone.
        assert!(encoder_activations(&basic) > 21 * 1024 * 256 && encoder_activations(&basic) < 60 * 1024 * 256);
        let bottleneck = MaeConfig { block: MaeBlock::Bottleneck, up_blocks: 3, ..basic.clone() };
        assert!(encoder_activations(&bottleneck) > encoder_activations(&basic));
        assert!(decoder_activations(&bottleneck) < decoder_activations(&basic));
    }
}
