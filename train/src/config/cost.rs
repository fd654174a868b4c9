//! Arithmetic and memory of the networks, counted from their sizes.
//!
//! Multiply-accumulates (MAC) are those of matrix products and convolutions; norms, activations and the drift itself are
//! left out. Numbers are those that stay in memory from a forward pass to its backward pass in this implementation.

use drifting_spec::{GeneratorConfig, MaeBlock, MaeConfig};

/// Multiply-accumulates of one generated image (method section 9: 24.5 G for B/2, 86.4 G for L/2).
#[must_use]
pub fn generator_macs(config: &GeneratorConfig) -> u64 {
    let (hidden, tokens) = (config.hidden as u64, tokens(config));
    let patches = tokens - config.registers as u64;
    // Queries, keys, values and output; the two products of attention; the three matrices of SwiGLU.
    let token = 4 * hidden * hidden + 2 * tokens * hidden + 3 * hidden * config.mlp_inner() as u64;
    let block = tokens * token + 6 * hidden * hidden;
    // Into tokens and out of them; the modulation of the last layer; alpha's two layers and the registers' projection.
    let ends = 2 * patches * config.patch_len() as u64 * hidden + 2 * hidden * hidden + (256 + 2 * hidden) * hidden;
    config.depth as u64 * block + ends
}

/// Numbers of one generated image that the backward pass needs.
#[must_use]
pub fn generator_activations(config: &GeneratorConfig) -> u64 {
    let block = 10 * config.hidden as u64 + 2 * config.mlp_inner() as u64;
    tokens(config) * (config.depth as u64 * block + 4 * config.hidden as u64) + 2 * config.image.len() as u64
}

fn tokens(config: &GeneratorConfig) -> u64 {
    config.tokens() as u64
}

/// Convolutions of a masked autoencoder: positions of the output, side of the kernel, channels in and out.
struct Conv {
    positions: u64,
    side: u64,
    from: u64,
    to: u64,
}

impl Conv {
    fn macs(&self) -> u64 {
        self.positions * self.side * self.side * self.from * self.to
    }

    /// Its output and that of the norm after it.
    fn activations(&self) -> u64 {
        2 * self.positions * self.to
    }
}

/// Multiply-accumulates of the encoder on one image (method section 7.1: 18.53 G for C = 256 latents).
#[must_use]
pub fn encoder_macs(config: &MaeConfig) -> u64 {
    encoder(config).iter().map(Conv::macs).sum()
}

/// Multiply-accumulates of the decoder on one image (method section 7.1: 9.66 G for C = 256 latents).
#[must_use]
pub fn decoder_macs(config: &MaeConfig) -> u64 {
    decoder(config).iter().map(Conv::macs).sum()
}

/// Numbers of the encoder that the gradient with respect to one image needs.
#[must_use]
pub fn encoder_activations(config: &MaeConfig) -> u64 {
    // Each block also keeps its sum and what ReLU makes of it, each stage what its norm does.
    let sums = (0..4).map(|stage| positions(config, stage) * channels(config, stage) * (2 * blocks(config, stage) + 1));
    encoder(config).iter().map(Conv::activations).sum::<u64>() + sums.sum::<u64>()
}

/// Numbers of the decoder that its backward pass needs for one image.
#[must_use]
pub fn decoder_activations(config: &MaeConfig) -> u64 {
    // Each up block also keeps the enlarged map beside its skip, and their norm.
    decoder(config).iter().map(|conv| conv.activations() + conv.positions * conv.from).sum()
}

fn positions(config: &MaeConfig, stage: usize) -> u64 {
    let (rows, columns) = config.stage_grid(stage);
    (rows * columns) as u64
}

fn channels(config: &MaeConfig, stage: usize) -> u64 {
    config.channels(stage) as u64
}

fn blocks(config: &MaeConfig, stage: usize) -> u64 {
    config.blocks.get(stage).copied().unwrap_or_default() as u64
}

fn encoder(config: &MaeConfig) -> Vec<Conv> {
    let grid = positions(config, 0);
    let mut convs = vec![Conv { positions: grid, side: 3, from: config.patch_len() as u64, to: channels(config, 0) }];
    for stage in 0..4 {
        let (inside, to) = (positions(config, stage), channels(config, stage));
        for block in 0..blocks(config, stage) {
            let enters = block == 0 && stage > 0;
            let (before, from) = match enters {
                true => (positions(config, stage - 1), channels(config, stage - 1)),
                false => (inside, to),
            };
            let conv = |positions, side, from, to| Conv { positions, side, from, to };
            match config.block {
                MaeBlock::Basic => convs.extend([conv(inside, 3, from, to), conv(inside, 3, to, to)]),
                MaeBlock::Bottleneck => {
                    let inner = to / 4;
                    let squeezed = [conv(before, 1, from, inner), conv(inside, 3, inner, inner)];
                    convs.extend(squeezed.into_iter().chain([conv(inside, 1, inner, to)]));
                }
            }
            if enters {
                convs.push(conv(inside, 1, from, to));
            }
        }
    }
    convs
}

fn decoder(config: &MaeConfig) -> Vec<Conv> {
    let deepest = channels(config, 3);
    let mut convs = vec![Conv { positions: positions(config, 3), side: 3, from: deepest, to: deepest }];
    let mut from = deepest;
    // Skips: the third, second and first stage, then the stem, whose map is as large as the first stage's.
    for stage in [2, 1, 0, 0].into_iter().take(config.up_blocks) {
        let (positions, to) = (positions(config, stage), channels(config, stage));
        convs.push(Conv { positions, side: 3, from: from + to, to });
        convs.push(Conv { positions, side: 3, from: to, to });
        from = to;
    }
    convs.push(Conv { positions: positions(config, 0), side: 1, from, to: config.patch_len() as u64 });
    convs
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: [(&str, f64); 4] =
        [("latent-b2", 24.5), ("latent-l2", 86.4), ("pixel-b16", 24.8), ("pixel-l16", 86.8)];

    fn giga(macs: u64) -> f64 {
        macs as f64 / 1e9
    }

    #[test]
    fn generators_cost_what_the_method_says() {
        for (name, expected) in PUBLISHED {
            let found = giga(generator_macs(&GeneratorConfig::published(name).unwrap()));
            assert!((found - expected).abs() < 0.06, "{name}: {found} {expected}");
        }
    }

    #[test]
    fn encoders_and_decoders_cost_what_the_method_says() {
        for (name, encoder, decoder) in
            [("mae_latent_256", 18.53, 9.66), ("mae_latent_640", 115.79, 60.40), ("mae_pixel_640", 116.90, 60.5)]
        {
            let config = MaeConfig::published(name).unwrap();
            let (found, rest) = (giga(encoder_macs(&config)), giga(decoder_macs(&config)));
            assert!((found - encoder).abs() < 0.01 && (rest - decoder).abs() < 0.1, "{name}: {found} {rest}");
        }
    }

    #[test]
    fn bottlenecks_and_shallow_decoders_cost_less() {
        let basic = MaeConfig::published("mae_latent_256").unwrap();
        let bottleneck = MaeConfig { block: MaeBlock::Bottleneck, up_blocks: 3, ..basic.clone() };
        assert!(encoder_macs(&bottleneck) < encoder_macs(&basic) / 4);
        assert!(decoder_macs(&bottleneck) < decoder_macs(&basic));
        assert!(encoder_activations(&basic) > 10 * 1024 * 256 && decoder_activations(&basic) > 10 * 1024 * 256);
    }
}
