//! Operations on images whose channels come last.

use std::rc::Rc;

use candle_core::{Result, Tensor};
use drifting_models::ops::{
    Conv, ConvChain, ConvNorm, GroupNorm, MaxPool, Skip, conv_chain, conv2d, group_norm, max_pool, resize_bilinear,
    resize_bilinear_antialias, upsample_nearest2,
};
use serde_json::{Value, json};

use crate::case::{Case, Pass};
use crate::graph::Graph;
use crate::input::Input;

const ALL: [Pass; 3] = [Pass::Forward, Pass::Frozen, Pass::Training];
const FROZEN: [Pass; 2] = [Pass::Forward, Pass::Frozen];
const EPSILON: f32 = 1e-6;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Images, side, channels in and out, side of the kernel, stride: the stages of an encoder of width 32.
    for sizes in [
        [64, 32, 32, 32, 3, 1],
        [64, 16, 64, 64, 3, 1],
        [64, 8, 128, 128, 3, 1],
        [64, 4, 256, 256, 3, 1],
        [64, 32, 32, 64, 3, 2],
        [64, 8, 128, 256, 3, 2],
        [64, 32, 32, 64, 1, 2],
        [64, 32, 32, 16, 1, 1],
    ] {
        cases.extend(dense(sizes).in_passes(&ALL));
    }
    // Those of a ConvNeXt.
    for sizes in [[8, 56, 128], [16, 14, 512]] {
        cases.extend(depthwise(sizes).in_passes(&FROZEN));
    }
    for (sizes, groups) in [([64, 32, 32], 32), ([64, 8, 128], 32), ([160, 14, 32], 4)] {
        cases.extend(norm(sizes, groups, true).in_passes(&ALL));
    }
    cases.extend(norm([64, 16, 64], 32, false).in_passes(&FROZEN));
    // Images, side, channels in and out, groups: blocks of the yardstick and of fashion.
    for (sizes, groups) in
        [([64, 32, 32, 32], 32), ([64, 16, 64, 64], 32), ([64, 8, 128, 128], 32), ([64, 4, 256, 256], 32)]
    {
        cases.extend(frozen_block(sizes, groups).in_passes(&FROZEN));
    }
    for (sizes, groups) in [([64, 32, 32, 64], 32), ([64, 8, 128, 256], 32), ([160, 14, 32, 32], 4)] {
        cases.extend(frozen_block(sizes, groups).in_passes(&FROZEN));
    }
    cases.extend(trained_block([64, 32, 32, 32], 32).in_passes(&[Pass::Training]));
    cases.extend(trained_block([64, 14, 32, 64], 4).in_passes(&[Pass::Training]));
    for sizes in [[64, 4, 256, 8], [64, 16, 64, 32]] {
        cases.extend(resize("bilinear resize", sizes, false).in_passes(&FROZEN));
    }
    cases.extend(resize("bilinear resize, antialiased", [8, 256, 3, 224], true).in_passes(&FROZEN));
    cases.extend(upsample([4, 32, 128]).in_passes(&FROZEN));
    for (sizes, pool) in [
        ([16, 73, 64], MaxPool { side: 3, stride: 2, padding: 0 }),
        ([16, 35, 192], MaxPool { side: 3, stride: 1, padding: 1 }),
    ] {
        cases.extend(pooled(sizes, pool).in_passes(&FROZEN));
    }
    cases
}

fn images([batch, side, channels]: [usize; 3], spread: f32) -> Input {
    Input::normal("x", &[batch, side, side, channels], spread)
}

fn described([batch, side, channels]: [usize; 3]) -> String {
    format!("{batch}x{side}x{side}x{channels}")
}

fn kernel(name: &str, [side, from, to]: [usize; 3]) -> Input {
    Input::normal(name, &[side, side, from, to], ((side * side * from) as f32).powf(-0.5))
}

fn dense([batch, side, from, to, kernel_side, stride]: [usize; 6]) -> Graph {
    let conv = Conv::new(stride, kernel_side / 2);
    Graph {
        op: "convolution",
        peer: "conv2d",
        shape: format!("{} to {to}, {kernel_side}x{kernel_side}, stride {stride}", described([batch, side, from])),
        settings: json!({ "stride": stride, "padding": kernel_side / 2, "groups": 1 }),
        inputs: vec![images([batch, side, from], 1.0), kernel("weight", [kernel_side, from, to])],
        run: Rc::new(move |t| conv2d(&t[0], &t[1], None, conv)),
    }
}

fn depthwise([batch, side, channels]: [usize; 3]) -> Graph {
    let conv = Conv::depthwise(channels, 3);
    Graph {
        op: "depthwise convolution",
        peer: "conv2d",
        shape: format!("{}, 7x7", described([batch, side, channels])),
        settings: json!({ "stride": 1, "padding": 3, "groups": channels }),
        inputs: vec![
            images([batch, side, channels], 1.0),
            kernel("weight", [7, 1, channels]),
            Input::normal("bias", &[channels], 0.1),
        ],
        run: Rc::new(move |t| conv2d(&t[0], &t[1], Some(&t[2]), conv)),
    }
}

fn norm(sizes: [usize; 3], groups: usize, relu: bool) -> Graph {
    let settings = GroupNorm { groups, eps: EPSILON, relu };
    Graph {
        op: if relu { "group norm and ReLU" } else { "group norm" },
        peer: "group_norm",
        shape: format!("{}, {groups} groups", described(sizes)),
        settings: of_norm(settings),
        inputs: vec![
            images(sizes, 1.0),
            Input::about("scale", &[sizes[2]], 0.1),
            Input::signs("bias", &[sizes[2]], 1.0),
        ],
        run: Rc::new(move |t| group_norm(&t[0], &t[1], &t[2], settings)),
    }
}

fn of_norm(norm: GroupNorm) -> Value {
    json!({ "groups": norm.groups, "eps": norm.eps, "relu": norm.relu })
}

/// A residual block as the frozen encoder has it: its parameters are flat.
fn frozen_block(sizes: [usize; 4], groups: usize) -> Graph {
    let (chain, parts) = block(sizes, groups);
    let inputs = vec![images([sizes[0], sizes[1], sizes[2]], 0.3), Input::joined("parameters", parts)];
    let settings = of_chain(&chain);
    let run = Rc::new(move |t: &[Tensor]| conv_chain(&t[0], &t[1], &chain));
    Graph { op: "residual block", peer: "conv_chain", shape: of_block(sizes, groups), settings, inputs, run }
}

/// The same as the training of an encoder has it: each parameter is a tensor.
fn trained_block(sizes: [usize; 4], groups: usize) -> Graph {
    let (chain, parts) = block(sizes, groups);
    let inputs = [vec![images([sizes[0], sizes[1], sizes[2]], 0.3)], parts].concat();
    let settings = of_chain(&chain);
    let run = Rc::new(move |t: &[Tensor]| {
        let flat = t[1..].iter().map(Tensor::flatten_all).collect::<Result<Vec<_>>>()?;
        conv_chain(&t[0], &Tensor::cat(&flat, 0)?, &chain)
    });
    Graph { op: "residual block", peer: "conv_chain", shape: of_block(sizes, groups), settings, inputs, run }
}

fn of_block([batch, side, from, to]: [usize; 4], groups: usize) -> String {
    let way = if from == to { String::new() } else { format!(" to {to}, stride 2") };
    format!("{}{way}, {groups} groups", described([batch, side, from]))
}

/// Two convolutions of 3 x 3; the first one halves the image where the channels change.
fn block([_, _, from, to]: [usize; 4], groups: usize) -> (ConvChain, Vec<Input>) {
    let layer = |side: usize, from: usize, stride: usize, relu: bool| ConvNorm {
        kernel: [side, side, from, to],
        conv: Conv::new(stride, side / 2),
        norm: GroupNorm { groups, eps: EPSILON, relu },
    };
    let stride = if from == to { 1 } else { 2 };
    let layers = vec![layer(3, from, stride, true), layer(3, to, 1, false)];
    let skip = if from == to { Skip::Identity } else { Skip::Projection(layer(1, from, stride, false)) };
    // The biases outweigh what is added to them.
    let of_layer = |(i, (side, from, bias)): (usize, (usize, usize, f32))| {
        [
            kernel(&format!("weight{i}"), [side, from, to]),
            Input::about(&format!("scale{i}"), &[to], 0.1),
            Input::signs(&format!("bias{i}"), &[to], bias),
        ]
    };
    let sizes = [(3, from, 1.0), (3, to, 3.0), (1, from, 0.5)];
    let parts = sizes.into_iter().take(if from == to { 2 } else { 3 }).enumerate().flat_map(of_layer).collect();
    (ConvChain { layers, skip }, parts)
}

fn of_chain(chain: &ConvChain) -> Value {
    let of_layer =
        |layer: &ConvNorm| json!({ "kernel": layer.kernel, "stride": layer.conv.stride, "norm": of_norm(layer.norm) });
    let projection = match &chain.skip {
        Skip::Projection(layer) => of_layer(layer),
        Skip::None | Skip::Identity => Value::Null,
    };
    json!({ "layers": chain.layers.iter().map(of_layer).collect::<Vec<_>>(), "projection": projection })
}

fn resize(op: &'static str, [batch, side, channels, new]: [usize; 4], antialias: bool) -> Graph {
    Graph {
        op,
        peer: "resize",
        shape: format!("{} to {new}x{new}", described([batch, side, channels])),
        settings: json!({ "side": new, "antialias": antialias }),
        inputs: vec![images([batch, side, channels], 1.0)],
        run: Rc::new(move |t| match antialias {
            true => resize_bilinear_antialias(&t[0], (new, new)),
            false => resize_bilinear(&t[0], (new, new)),
        }),
    }
}

fn upsample(sizes: [usize; 3]) -> Graph {
    Graph {
        op: "every pixel four times",
        peer: "upsample",
        shape: described(sizes),
        settings: json!({}),
        inputs: vec![images(sizes, 1.0)],
        run: Rc::new(|t| upsample_nearest2(&t[0])),
    }
}

fn pooled(sizes: [usize; 3], pool: MaxPool) -> Graph {
    let MaxPool { side, stride, padding } = pool;
    Graph {
        op: "max pool",
        peer: "max_pool",
        shape: format!("{}, {side}x{side}, stride {stride}", described(sizes)),
        settings: json!({ "side": side, "stride": stride, "padding": padding }),
        inputs: vec![images(sizes, 1.0)],
        run: Rc::new(move |t| max_pool(&t[0], pool)),
    }
}
