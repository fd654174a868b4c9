//! How much the networks of an exported file compute, counted from their sizes.

use crate::{DecoderConfig, GeneratorConfig, ImageShape, KlDecoder, Manifest};

/// Cosines and sines of alpha that its embedding reads.
const ALPHA_FREQUENCIES: u128 = 256;

impl GeneratorConfig {
    /// Multiply-accumulates of one image: those of matrix products; norms, activations and lookups are left out (method
    /// section 9: 24.5 G for B/2, 86.4 G for L/2). Twice as many floating point operations.
    #[must_use]
    pub fn macs(&self) -> u64 {
        let wide = |size: usize| size as u128;
        let (hidden, tokens, patches) = (wide(self.hidden), wide(self.tokens()), wide(self.patches()));
        // Queries, keys, values and output; the two products of attention; the three matrices of SwiGLU.
        let token = 4 * hidden * hidden + 2 * tokens * hidden + 3 * hidden * wide(self.mlp_inner());
        let block = tokens * token + 6 * hidden * hidden;
        // Into tokens and out of them; the modulation of the last layer; alpha's two layers and the registers' projection.
        let ends = 2 * patches * wide(self.patch_len()) * hidden
            + 2 * hidden * hidden
            + (ALPHA_FREQUENCIES + 2 * hidden) * hidden;
        let all = block.saturating_mul(wide(self.depth)).saturating_add(ends);
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

impl Manifest {
    /// Multiply-accumulates of one image: the generator's and its decoder's.
    #[must_use]
    pub fn macs(&self) -> u64 {
        let decoder = self.decoder.as_ref().map_or(0, |decoder| decoder.config.macs(self.generator.image));
        self.generator.macs().saturating_add(decoder)
    }
}

impl DecoderConfig {
    /// Multiply-accumulates of one image from a latent of this shape: those of convolutions and matrix products.
    #[must_use]
    pub fn macs(&self, latent: ImageShape) -> u64 {
        let positions = latent.height as u128 * latent.width as u128;
        let all = match self {
            Self::Kl(config) => kl(config, positions),
            Self::Taef2 => taef2(positions),
        };
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

/// One output of a 3x3 convolution.
fn conv3(inputs: usize, outputs: usize) -> u128 {
    9 * inputs as u128 * outputs as u128
}

/// From the innermost stage outwards; four times as many positions after each but the last.
fn kl(config: &KlDecoder, mut positions: u128) -> u128 {
    let Some((&inner, latent)) = config.widths.last().zip(Some(config.latent_channels)) else { return 0 };
    let residual = |inputs: usize, outputs: usize| {
        let shortcut = if inputs == outputs { 0 } else { inputs as u128 * outputs as u128 };
        conv3(inputs, outputs) + conv3(outputs, outputs) + shortcut
    };
    let attention = 4 * (inner as u128).pow(2) + 2 * positions * inner as u128;
    let mut all = positions * (conv3(latent, inner) + 2 * residual(inner, inner));
    all += positions * u128::from(config.attention) * attention;
    all += positions * u128::from(config.post_quant_conv) * (latent as u128).pow(2);
    let mut inputs = inner;
    for (stage, &width) in config.widths.iter().rev().enumerate() {
        let blocks = residual(inputs, width) + config.blocks.saturating_sub(1) as u128 * residual(width, width);
        all = all.saturating_add(positions.saturating_mul(blocks));
        inputs = width;
        if stage + 1 < config.widths.len() {
            positions = positions.saturating_mul(4);
            all = all.saturating_add(positions.saturating_mul(conv3(width, width)));
        }
    }
    all.saturating_add(positions.saturating_mul(conv3(inputs, config.image_channels)))
}

/// Three blocks with their middle, then three times a larger image, two of them with three blocks and the last with one.
fn taef2(positions: u128) -> u128 {
    let (width, block) = (64, 3 * conv3(64, 64));
    let inner = conv3(32, width) + 3 * (block + 2 * 64 * 256);
    let stages = [(4, 3), (16, 3), (64, 1)].map(|(larger, blocks)| larger * (conv3(width, width) + blocks * block));
    positions * (inner + stages.iter().sum::<u128>() + 64 * conv3(width, 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageShape;

    #[test]
    fn published_sizes_cost_what_the_method_says() {
        for (name, expected) in [("latent-b2", 24.5), ("latent-l2", 86.4), ("pixel-b16", 24.8), ("pixel-l16", 86.8)] {
            let found = GeneratorConfig::published(name).unwrap().macs() as f64 / 1e9;
            assert!((found - expected).abs() < 0.06, "{name}: {found} {expected}");
        }
    }

    /// The published decoder is said to take 1.24 T for 512 x 512 pixels, four times what 256 x 256 take but for the attention.
    #[test]
    fn the_decoder_of_stable_diffusion_costs_what_is_known() {
        let config = KlDecoder {
            image_channels: 3,
            latent_channels: 4,
            widths: vec![128, 256, 512, 512],
            blocks: 3,
            groups: 32,
            scale: 0.18215,
            shift: 0.0,
            post_quant_conv: true,
            attention: true,
        };
        let latent = ImageShape { channels: 4, height: 64, width: 64 };
        let found = DecoderConfig::Kl(config).macs(latent) as f64 / 1e12;
        assert!((found - 1.24).abs() < 0.03, "{found}");
    }

    /// Of 1.2 M weights nearly all are read at each position of one of four sizes.
    #[test]
    fn a_decoder_adds_to_its_generator() {
        let latent = ImageShape { channels: 32, height: 8, width: 8 };
        let alone = GeneratorConfig::new(latent, 2, 64, 1, 1, 2);
        let alpha = crate::AlphaRange { min: 1.0, max: 4.0, default: 1.0 };
        let mut manifest = Manifest::new("test".into(), alone.clone(), alpha);
        assert_eq!(manifest.macs(), alone.macs());
        manifest.decoder = Some(crate::Decoder { config: DecoderConfig::Taef2, weights_sha256: String::new() });
        assert_eq!(manifest.macs() - alone.macs(), DecoderConfig::Taef2.macs(latent));
        assert!(
            (0.8e9..1.2e9).contains(&(DecoderConfig::Taef2.macs(latent) as f64)),
            "{}",
            DecoderConfig::Taef2.macs(latent)
        );
    }

    #[test]
    fn the_largest_settings_that_pass_do_not_overflow() {
        let side = 1 << 20;
        let image = ImageShape { channels: 1, height: 1 << 13, width: 1 << 13 };
        let large = GeneratorConfig::new(image, 64, side, side, 1, 1);
        let largest = GeneratorConfig { mlp_hidden: Some(side), ..large };
        largest.validate().unwrap();
        assert_eq!(largest.macs(), u64::MAX);
    }
}
