use super::super::testing::{agrees, random};
use super::super::{Attention, Rotation};
use super::composed::composed;
use super::*;
use drifting_spec::{GeneratorConfig, ImageShape, QkNorm, Rope};

fn settings(norm: Norm, norm_parts: usize, qk_norm: QkNorm, rope: Rope) -> BlockSettings {
    let image = ImageShape { channels: 1, height: 4, width: 6 };
    let config = GeneratorConfig { registers: 1, rope, ..GeneratorConfig::new(image, 2, 24, 1, 3, 3) };
    let sizes = BlockSizes { hidden: 24, inner: 20, head_dim: 8, norm_parts };
    BlockSettings { sizes, norm, attention: Attention { heads: 3, qk_norm, rotation: Rotation::of(&config) } }
}

fn inputs(settings: &BlockSettings, batch: usize) -> [candle_core::Var; 3] {
    let weights = random("weights", &[settings.sizes.total()]);
    // Weights of the usual size: with standard normal ones the softmax would be at its ends.
    weights.set(&(weights.as_tensor() * 0.3).unwrap()).unwrap();
    [random("x", &[batch, 7, 24]), random("modulation", &[batch, 144]), weights]
}

#[test]
fn agrees_with_single_operations() {
    // 45 images: more than one step in a part, and a last part that is not full.
    for (norm, parts, batch) in [(Norm::Rms, 1, 2), (Norm::Layer, 2, 3), (Norm::Layer, 1, 45)] {
        let settings = settings(norm, parts, QkNorm::Rms, Rope::OneD);
        let inputs = inputs(&settings, batch);
        agrees(&inputs, |t| block(&t[0], &t[1], &t[2], &settings), |t| composed(&t[0], &t[1], &t[2], &settings));
    }
}

#[test]
fn what_is_computed_again_is_the_same() {
    let settings = settings(Norm::Rms, 1, QkNorm::Rms, Rope::OneD);
    let inputs = inputs(&settings, 2);
    let again = |t: &[Tensor]| block_recomputed(&t[0], &t[1], &t[2], &settings);
    agrees(&inputs, again, |t| composed(&t[0], &t[1], &t[2], &settings));
}

#[test]
fn agrees_in_every_kind_of_attention() {
    for (qk_norm, rope) in [(QkNorm::L2, Rope::TwoD), (QkNorm::Off, Rope::Off)] {
        let settings = settings(Norm::Rms, 1, qk_norm, rope);
        let inputs = inputs(&settings, 2);
        agrees(&inputs, |t| block(&t[0], &t[1], &t[2], &settings), |t| composed(&t[0], &t[1], &t[2], &settings));
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let settings = settings(Norm::Rms, 1, QkNorm::Rms, Rope::OneD);
    let [x, modulation, weights] = inputs(&settings, 2);
    assert!(block(&x, &modulation, &weights.narrow(0, 0, 100).unwrap(), &settings).is_err());
    assert!(block(&x, &modulation.narrow(0, 0, 1).unwrap(), &weights, &settings).is_err());
    assert!(block(&random("x", &[2, 6, 24]), &modulation, &weights, &settings).is_err());
}
