//! What a pass costs, for the plan of a run.

use drifting_spec::MaeConfig;

use super::mae_parameter_shapes;
use crate::Result;

/// Floating-point operations of one image's forward pass: two for each multiplication of a convolution or of the
/// classifier. Norms and activations are not counted; they are below 1 % from 64 channels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaeFlops {
    /// Of the encoder: all that the features of the drifting loss need.
    pub encoder: u64,
    /// Of the decoder, which only masked training runs.
    pub decoder: u64,
    /// Of the classifier.
    pub classifier: u64,
}

/// Floating-point operations of one image's forward pass, without building the network. A backward pass costs as many
/// again for the input's gradient, and as many for the weights'.
///
/// # Errors
/// A configuration that contradicts itself.
pub fn mae_flops(config: &MaeConfig) -> Result<MaeFlops> {
    let mut flops = MaeFlops { encoder: 0, decoder: 0, classifier: 0 };
    for (name, shape) in mae_parameter_shapes(config)? {
        // Only kernels multiply; norms and biases are vectors.
        if shape.len() < 2 {
            continue;
        }
        let weights: u64 = shape.iter().map(|&size| size as u64).product();
        let (sum, (rows, columns)) = match name.split_once('.') {
            Some(("encoder", part)) => (&mut flops.encoder, encoder_grid(config, part)),
            Some(("decoder", part)) => (&mut flops.decoder, decoder_grid(config, part)),
            _ => (&mut flops.classifier, (1, 1)),
        };
        *sum += 2 * weights * rows as u64 * columns as u64;
    }
    Ok(flops)
}

/// Rows and columns of what a convolution of the encoder writes.
fn encoder_grid(config: &MaeConfig, part: &str) -> (usize, usize) {
    let mut names = part.split('.');
    let stage = match (names.next(), names.next().and_then(|stage| stage.parse::<usize>().ok())) {
        (Some("stages"), Some(stage)) => stage,
        _ => return config.grid(),
    };
    // A bottleneck's stride is in its second convolution; its first one works on the map of the stage before.
    let before = config.block == drifting_spec::MaeBlock::Bottleneck && part.ends_with("layers.0.conv1.weight");
    config.stage_grid(if before { stage.saturating_sub(1) } else { stage })
}

/// Rows and columns of what a convolution of the decoder writes.
fn decoder_grid(config: &MaeConfig, part: &str) -> (usize, usize) {
    config.stage_grid(match part.split('.').next() {
        Some("bridge") => 3,
        Some("up43") => 2,
        Some("up32") => 1,
        _ => 0,
    })
}
