//! How much a generator computes, counted from its sizes.

use crate::GeneratorConfig;

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

    #[test]
    fn the_largest_settings_that_pass_do_not_overflow() {
        let side = 1 << 20;
        let image = ImageShape { channels: 1, height: 1 << 13, width: 1 << 13 };
        let largest = GeneratorConfig { mlp_hidden: Some(side), ..GeneratorConfig::new(image, 1, side, side, 1, 1) };
        largest.validate().unwrap();
        assert_eq!(largest.macs(), u64::MAX);
    }
}
