//! Kernels, emulated, against tensor operations and against the slopes of their own values.

use drifting_kernels::emulator::emulated;
use drifting_spec::{GeneratorConfig, ImageShape, Norm, QkNorm, Rope};

use super::super::conv::geometry::Geometry;
use super::super::testing::{agrees, random, same};
use super::super::{
    Attention, BlockSettings, BlockSizes, Conv, ConvChain, ConvNorm, GroupNorm, Modulation, Padding, Rotation, Skip,
    tensors,
};
use super::*;

#[test]
fn norms() {
    for kind in [Norm::Rms, Norm::Layer] {
        for (parts, [images, tokens, hidden]) in [(1, [2, 3, 21]), (2, [2, 3, 21]), (2, [3, 19, 70]), (1, [1, 1, 1])] {
            let columns = Modulation { shift: 3, scale: hidden + 4 };
            let modulation = random("modulation", &[images, 2 * hidden + 5]);
            let inputs = [random("x", &[images, tokens, hidden]), random("affine", &[parts, hidden]), modulation];
            if hidden == 1 {
                // Nothing changes along a row of one number: all slopes are rounding.
                let y = norm(kind, &inputs[0], &inputs[1], &inputs[2], columns).unwrap();
                assert!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0].is_finite());
                continue;
            }
            let twin = |t: &[Tensor]| tensors::norm(kind, &t[0], &t[1], &t[2], columns);
            agrees(&inputs, |t| norm(kind, &t[0], &t[1], &t[2], columns), twin);
        }
    }
}

#[test]
fn group_norms() {
    for (shape, groups) in [(&[2, 3, 5, 8][..], 4), (&[3, 7, 6], 1), (&[2, 17, 19, 70], 35), (&[2, 6], 2)] {
        let channels = *shape.last().unwrap();
        let inputs = [random("x", shape), random("scale", &[channels]), random("bias", &[channels])];
        let settings = |relu| GroupNorm { groups, eps: 1e-6, relu };
        let ours = |t: &[Tensor], relu| group_norm(&t[0], &t[1], &t[2], settings(relu));
        let twin = |t: &[Tensor], relu| tensors::group_norm(&t[0], &t[1], &t[2], settings(relu));
        agrees(&inputs, |t| ours(t, false), |t| twin(t, false));
        same(&inputs, &|t| ours(t, true), &|t| twin(t, true));
    }
    let numbers = [1.0, 2.0, f32::NAN, 1.0, 2.0, 6.0];
    let x = Tensor::new(&numbers, &candle_core::Device::Cpu).unwrap().reshape((2, 3, 1)).unwrap();
    let one = |value: f32| Tensor::new(&[value], x.device()).unwrap();
    let y = group_norm(&x, &one(1.0), &one(0.0), GroupNorm { groups: 1, eps: 1e-6, relu: true }).unwrap();
    let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(y[..3].iter().all(|value| value.is_nan()) && y[3] == 0.0 && y[5] > 1.0, "{y:?}");
}

#[test]
fn gates() {
    for shape in [&[21][..], &[1], &[3, 1, 700]] {
        let inputs = [random("gate", shape), random("value", shape)];
        agrees(&inputs, |t| swiglu(&t[0], &t[1]), |t| tensors::swiglu(&t[0], &t[1]));
    }
    for [images, tokens, hidden] in [[2, 3, 21], [1, 1, 1], [3, 70, 37]] {
        let shape = [images, tokens, hidden];
        let inputs = [random("x", &shape), random("y", &shape), random("modulation", &[images, 2 * hidden + 1])];
        let twin = |t: &[Tensor]| tensors::gated_add(&t[0], &t[1], &t[2], hidden);
        agrees(&inputs, |t| gated_add(&t[0], &t[1], &t[2], hidden), twin);
    }
}

#[test]
fn convolutions() {
    let uneven = Padding { top: 0, bottom: 3, left: 2, right: 1 };
    let cases = [
        ([2, 5, 6, 3], [3, 3, 3, 4], Conv::new(1, 1)),
        ([2, 5, 6, 4], [3, 3, 4, 8], Conv::new(1, 1)),
        ([3, 7, 8, 4], [3, 3, 4, 5], Conv::new(2, 1)),
        ([2, 6, 6, 5], [1, 1, 5, 7], Conv::new(1, 0)),
        ([2, 6, 6, 4], [1, 1, 4, 2], Conv::new(2, 0)),
        ([2, 5, 9, 4], [3, 3, 4, 4], Conv::new(1, 3)),
        ([2, 7, 5, 2], [3, 3, 2, 3], Conv { padding: uneven, ..Conv::new(2, 0) }),
        ([1, 4, 5, 16], [2, 2, 16, 3], Conv::new(3, 0)),
    ];
    for (images, kernel, conv) in cases {
        let inputs = [random("x", &images), random("weight", &kernel), random("bias", &kernel[3..])];
        let geometry = Geometry::new(images.into(), kernel.into(), conv).unwrap();
        let ours = |t: &[Tensor]| emulated(|| tensors::convolution(geometry, &t[0], &t[1], t.get(2)));
        let twin = |t: &[Tensor]| tensors::convolution(geometry, &t[0], &t[1], t.get(2));
        agrees(&inputs, ours, twin);
        agrees(&inputs[..2], ours, twin);
    }
}

#[test]
fn attentions() {
    let settings = |qk_norm, rope| {
        let image = ImageShape { channels: 1, height: 4, width: 6 };
        let config = GeneratorConfig { registers: 1, rope, ..GeneratorConfig::new(image, 2, 24, 1, 3, 3) };
        Attention { heads: 3, qk_norm, rotation: Rotation::of(&config) }
    };
    let ways =
        [(QkNorm::Rms, Rope::OneD), (QkNorm::Rms, Rope::TwoD), (QkNorm::L2, Rope::Off), (QkNorm::Off, Rope::OneD)];
    for (qk_norm, rope) in ways {
        let settings = settings(qk_norm, rope);
        let gains = random("gains", &[2, 8]);
        let read = if qk_norm == QkNorm::Rms { vec![gains.clone()] } else { Vec::new() };
        let inputs = [vec![random("qkv", &[2, 7, 72])], read].concat();
        let of = |t: &[Tensor]| t.get(1).map_or_else(|| gains.detach(), Tensor::clone);
        let twin = |t: &[Tensor]| tensors::attention(&t[0], &of(t), &settings);
        agrees(&inputs, |t| attention(&t[0], &of(t), &settings), twin);
    }
    for (qk_norm, [images, tokens, heads, dim]) in
        [(QkNorm::Rms, [1, 33, 2, 70]), (QkNorm::Off, [3, 1, 2, 2]), (QkNorm::L2, [1, 5, 1, 256])]
    {
        assert!(attention_fits(dim) && !attention_fits(dim + 1));
        let settings = Attention { heads, qk_norm, rotation: None };
        let gains = random("gains", &[2, dim]);
        let inputs = [random("qkv", &[images, tokens, 3 * heads * dim])];
        let twin = |t: &[Tensor]| tensors::attention(&t[0], &gains.detach(), &settings);
        agrees(&inputs, |t| attention(&t[0], &gains.detach(), &settings), twin);
    }
}

#[test]
fn blocks() {
    let image = ImageShape { channels: 1, height: 4, width: 6 };
    let config = GeneratorConfig { registers: 1, ..GeneratorConfig::new(image, 2, 24, 1, 3, 3) };
    for (kind, norm_parts, qk_norm) in [(Norm::Rms, 1, QkNorm::Rms), (Norm::Layer, 2, QkNorm::Off)] {
        let sizes = BlockSizes { hidden: 24, inner: 20, head_dim: 8, norm_parts };
        let attention = Attention { heads: 3, qk_norm, rotation: Rotation::of(&config) };
        let settings = BlockSettings { sizes, norm: kind, attention };
        let weights = random("weights", &[sizes.total()]);
        // Weights of the usual size: with standard normal ones the softmax would be at its ends.
        weights.set(&(weights.as_tensor() * 0.3).unwrap()).unwrap();
        let inputs = [random("x", &[2, 7, 24]), random("modulation", &[2, 144]), weights];
        let twin = |t: &[Tensor]| super::super::block(&t[0], &t[1], &t[2], &settings);
        agrees(&inputs, |t| block(&t[0], &t[1], &t[2], &settings, false), twin);
        agrees(&inputs, |t| block(&t[0], &t[1], &t[2], &settings, true), twin);
    }
}

#[test]
fn chains_of_convolutions() {
    let norm = |relu| GroupNorm { groups: 2, eps: 1e-5, relu };
    let layer = |kernel: [usize; 4], stride, relu| {
        let conv = Conv::new(stride, kernel[0] / 2);
        ConvNorm { kernel, conv, norm: norm(relu) }
    };
    let chains = [
        ConvChain { layers: vec![layer([3, 3, 4, 6], 2, true)], skip: Skip::None },
        ConvChain { layers: vec![layer([3, 3, 4, 4], 1, true), layer([3, 3, 4, 4], 1, false)], skip: Skip::Identity },
        ConvChain {
            layers: vec![layer([3, 3, 4, 6], 2, true), layer([3, 3, 6, 6], 1, false)],
            skip: Skip::Projection(layer([1, 1, 4, 6], 2, false)),
        },
    ];
    for chain in chains {
        let all = chain.layers.iter().chain(match &chain.skip {
            Skip::Projection(layer) => Some(layer),
            _ => None,
        });
        let count = all.map(|layer| layer.sizes()[0] + 2 * layer.sizes()[1]).sum::<usize>();
        let inputs = [random("x", &[3, 6, 4, 4]), random("parameters", &[count])];
        let ours = |t: &[Tensor]| conv_chain(&t[0], &t[1], &chain);
        let twin = |t: &[Tensor]| super::super::conv_chain(&t[0], &t[1], &chain);
        // ReLU's slope jumps, which differences cannot tell.
        same(&inputs, &ours, &twin);
        // Parameters that stay as they are, as those of an encoder do.
        let [x, parameters] = &inputs;
        let frozen = |by_kernels: bool| {
            let t = [x.as_tensor().clone(), parameters.detach()];
            let y = if by_kernels { ours(&t) } else { twin(&t) };
            let gradients = y.unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
            gradients.get(x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        for (found, expected) in frozen(true).iter().zip(frozen(false)) {
            assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} {expected}");
        }
    }
}
