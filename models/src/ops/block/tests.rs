use super::super::testing::{agrees, random};
use super::super::{Attention, Modulation, Rotation, attention, gated_add, linear, norm, swiglu};
use super::*;
use drifting_spec::{GeneratorConfig, ImageShape, QkNorm, Rope};

fn settings(norm: Norm, norm_parts: usize, qk_norm: QkNorm, rope: Rope) -> BlockSettings {
    let image = ImageShape { channels: 1, height: 4, width: 6 };
    let config = GeneratorConfig { registers: 1, rope, ..GeneratorConfig::new(image, 2, 24, 1, 3, 3) };
    let sizes = BlockSizes { hidden: 24, inner: 20, head_dim: 8, norm_parts };
    BlockSettings { sizes, norm, attention: Attention { heads: 3, qk_norm, rotation: Rotation::of(&config) } }
}

/// The block out of single operations.
fn plain(x: &Tensor, modulation: &Tensor, weights: &Tensor, settings: &BlockSettings) -> Result<Tensor> {
    let BlockSizes { hidden, inner, head_dim, norm_parts } = settings.sizes;
    let mut at = 0;
    let mut take = |shape: &[usize]| {
        let len = shape.iter().product();
        let part = weights.narrow(0, at, len)?.reshape(shape);
        at += len;
        part
    };
    let norm1 = take(&[norm_parts, hidden])?;
    let (qkv, qkv_bias) = (take(&[3 * hidden, hidden])?, take(&[3 * hidden])?);
    let gains = take(&[2, head_dim])?;
    let (out, out_bias) = (take(&[hidden, hidden])?, take(&[hidden])?);
    let norm2 = take(&[norm_parts, hidden])?;
    let (gate, gate_bias) = (take(&[inner, hidden])?, take(&[inner])?);
    let (value, value_bias) = (take(&[inner, hidden])?, take(&[inner])?);
    let (down, down_bias) = (take(&[hidden, inner])?, take(&[hidden])?);
    let columns = |first: usize| Modulation { shift: first * hidden, scale: (first + 1) * hidden };
    let normed = norm(settings.norm, x, &norm1, modulation, columns(0))?;
    let mixed = attention(&linear(&normed, &qkv, &qkv_bias)?, &gains, &settings.attention)?;
    let x = gated_add(x, &linear(&mixed, &out, &out_bias)?, modulation, 2 * hidden)?;
    let normed = norm(settings.norm, &x, &norm2, modulation, columns(3))?;
    let activation = swiglu(&linear(&normed, &gate, &gate_bias)?, &linear(&normed, &value, &value_bias)?)?;
    gated_add(&x, &linear(&activation, &down, &down_bias)?, modulation, 5 * hidden)
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
        agrees(&inputs, |t| block(&t[0], &t[1], &t[2], &settings), |t| plain(&t[0], &t[1], &t[2], &settings));
    }
}

#[test]
fn agrees_in_every_kind_of_attention() {
    for (qk_norm, rope) in [(QkNorm::L2, Rope::TwoD), (QkNorm::Off, Rope::Off)] {
        let settings = settings(Norm::Rms, 1, qk_norm, rope);
        let inputs = inputs(&settings, 2);
        agrees(&inputs, |t| block(&t[0], &t[1], &t[2], &settings), |t| plain(&t[0], &t[1], &t[2], &settings));
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
