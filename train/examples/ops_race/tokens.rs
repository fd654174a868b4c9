//! Operations of a transformer.

use std::rc::Rc;

use candle_core::{Result, Tensor};
use drifting_models::ops::{
    Attention, BlockSettings, BlockSizes, Modulation, Rotation, attention, block, gated_add, layer_norm, norm, permute,
    sum_of_rows, swiglu,
};
use drifting_spec::{GeneratorConfig, ImageShape, Norm, QkNorm};
use serde_json::json;

use crate::case::{Case, Pass};
use crate::graph::Graph;
use crate::input::Input;

const BOTH: [Pass; 2] = [Pass::Forward, Pass::Training];
const FROZEN: [Pass; 2] = [Pass::Forward, Pass::Frozen];
/// Columns of a modulation: shift, scale and gate of the attention, then of the MLP.
const COLUMNS: usize = 6;

/// A generator and the images that it makes at once.
struct Network {
    config: GeneratorConfig,
    batch: usize,
}

fn networks() -> [Network; 3] {
    let (grey, latent) = (ImageShape { channels: 1, height: 28, width: 28 }, [4, 32, 32]);
    let latent = ImageShape { channels: latent[0], height: latent[1], width: latent[2] };
    let fashion = GeneratorConfig { registers: 4, ..GeneratorConfig::new(grey, 4, 128, 4, 4, 10) };
    [
        Network { config: fashion, batch: 160 },
        Network { config: GeneratorConfig::new(latent, 4, 128, 4, 2, 1000), batch: 64 },
        // The paper's latent-B/2.
        Network { config: GeneratorConfig::new(latent, 2, 768, 12, 12, 1000), batch: 4 },
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for network in &networks() {
        cases.extend(network.norm(Norm::Rms).in_passes(&BOTH));
    }
    cases.extend(networks()[2].norm(Norm::Layer).in_passes(&BOTH));
    for sizes in [[16, 56, 128], [16, 14, 512]] {
        cases.extend(image_norm(sizes).in_passes(&FROZEN));
    }
    for network in &networks() {
        cases.extend(network.block("transformer block", network.config.mlp_inner()).in_passes(&BOTH));
    }
    for network in &networks() {
        // Nearly nothing of its MLP is left.
        cases.extend(network.block("block with an MLP of 32", 32).in_passes(&BOTH));
    }
    for network in &networks() {
        cases.extend(network.attention().in_passes(&BOTH));
    }
    cases.extend(one_head().in_passes(&FROZEN));
    for network in &networks() {
        cases.extend(network.swiglu().in_passes(&BOTH));
        cases.extend(network.gated_add().in_passes(&BOTH));
    }
    for network in &networks() {
        cases.extend(network.styles().in_passes(&BOTH));
    }
    for sizes in [[64, 1024, 128], [160, 128, 49], [8, 3, 65536]] {
        cases.extend(copy(sizes).in_passes(&[Pass::Forward]));
    }
    cases.extend(cut().in_passes(&FROZEN));
    cases
}

impl Network {
    fn shape(&self) -> String {
        format!("{} x {} tokens of {}", self.batch, self.config.tokens(), self.config.hidden)
    }

    fn tokens(&self, name: &str, width: usize) -> Input {
        Input::normal(name, &[self.batch, self.config.tokens(), width], 1.0)
    }

    fn modulation(&self) -> Input {
        Input::normal("modulation", &[self.batch, COLUMNS * self.config.hidden], 0.3)
    }

    fn norm(&self, kind: Norm) -> Graph {
        let hidden = self.config.hidden;
        let (op, kind_name, gain) = match kind {
            Norm::Rms => ("modulated RMS norm", "rms", vec![Input::about("affine", &[1, hidden], 1.0)]),
            Norm::Layer => ("modulated layer norm", "layer", vec![Input::normal("affine", &[2, hidden], 1.0)]),
        };
        Graph {
            op,
            peer: "norm",
            shape: self.shape(),
            settings: json!({ "kind": kind_name }),
            inputs: [vec![self.tokens("x", hidden)], gain, vec![self.modulation()]].concat(),
            run: Rc::new(move |t| norm(kind, &t[0], &t[1], &t[2], Modulation { shift: 0, scale: hidden })),
        }
    }

    fn settings(&self) -> Attention {
        let GeneratorConfig { heads, qk_norm, .. } = self.config;
        Attention { heads, qk_norm, rotation: Rotation::of(&self.config) }
    }

    fn block(&self, op: &'static str, inner: usize) -> Graph {
        let (hidden, head_dim, heads) = (self.config.hidden, self.config.head_dim(), self.config.heads);
        let sizes = BlockSizes { hidden, inner, head_dim, norm_parts: 1 };
        let dense = |name: &str, out: usize, width: usize| {
            let weight = Input::normal(&format!("{name}_weight"), &[out, width], (width as f32).powf(-0.5));
            [weight, Input::normal(&format!("{name}_bias"), &[out], 0.1)]
        };
        // In the order of `BlockSizes`.
        let weights = [Input::about("norm1", &[hidden], 1.0)]
            .into_iter()
            .chain(dense("qkv", 3 * hidden, hidden))
            .chain([Input::about("gains", &[2, head_dim], 1.0)])
            .chain(dense("out", hidden, hidden))
            .chain([Input::about("norm2", &[hidden], 1.0)])
            .chain(dense("gate", inner, hidden))
            .chain(dense("value", inner, hidden))
            .chain(dense("down", hidden, inner));
        let settings = BlockSettings { sizes, norm: Norm::Rms, attention: self.settings() };
        Graph {
            op,
            peer: "block",
            shape: self.shape(),
            settings: json!({ "heads": heads }),
            inputs: [self.tokens("x", hidden), self.modulation()].into_iter().chain(weights).collect(),
            run: Rc::new(move |t| {
                let flat = t[2..].iter().map(Tensor::flatten_all).collect::<Result<Vec<_>>>()?;
                block(&t[0], &t[1], &Tensor::cat(&flat, 0)?, &settings)
            }),
        }
    }

    fn attention(&self) -> Graph {
        let GeneratorConfig { hidden, heads, .. } = self.config;
        let settings = self.settings();
        Graph {
            op: "attention",
            peer: "attention",
            shape: format!("{}, {heads} heads", self.shape()),
            settings: json!({ "heads": heads, "normalised": true }),
            inputs: vec![self.tokens("qkv", 3 * hidden), Input::about("gains", &[2, self.config.head_dim()], 1.0)],
            run: Rc::new(move |t| attention(&t[0], &t[1], &settings)),
        }
    }

    fn swiglu(&self) -> Graph {
        let inner = self.config.mlp_inner();
        Graph {
            op: "SwiGLU",
            peer: "swiglu",
            shape: format!("{} x {} tokens of {inner}", self.batch, self.config.tokens()),
            settings: json!({}),
            inputs: vec![self.tokens("gate", inner), self.tokens("value", inner)],
            run: Rc::new(|t| swiglu(&t[0], &t[1])),
        }
    }

    fn gated_add(&self) -> Graph {
        let hidden = self.config.hidden;
        Graph {
            op: "gated residual",
            peer: "gated_add",
            shape: self.shape(),
            settings: json!({ "offset": 2 * hidden }),
            inputs: vec![self.tokens("x", hidden), self.tokens("y", hidden), self.modulation()],
            run: Rc::new(move |t| gated_add(&t[0], &t[1], &t[2], 2 * hidden)),
        }
    }

    /// The style embedding.
    fn styles(&self) -> Graph {
        let GeneratorConfig { hidden, style_tokens, style_codes, .. } = self.config;
        let rows = style_tokens * style_codes;
        Graph {
            op: "sums of table rows",
            peer: "sum_of_rows",
            shape: format!("{} x {style_tokens} of {rows} rows of {hidden}", self.batch),
            settings: json!({}),
            inputs: vec![
                Input::normal("table", &[rows, hidden], 1.0),
                Input::below("indices", &[self.batch, style_tokens], rows),
            ],
            run: Rc::new(|t| sum_of_rows(&t[0], &t[1])),
        }
    }
}

/// The attention of an autoencoder: one wide head.
fn one_head() -> Graph {
    let settings = Attention { heads: 1, qk_norm: QkNorm::Off, rotation: None };
    Graph {
        op: "attention",
        peer: "attention",
        shape: "2 x 1024 tokens of 512, 1 head".to_owned(),
        settings: json!({ "heads": 1, "normalised": false }),
        inputs: vec![Input::normal("qkv", &[2, 1024, 3 * 512], 1.0), Input::about("gains", &[2, 512], 1.0)],
        run: Rc::new(move |t| attention(&t[0], &t[1], &settings)),
    }
}

/// Layer norm over the channels of images.
fn image_norm([batch, side, channels]: [usize; 3]) -> Graph {
    Graph {
        op: "layer norm",
        peer: "layer_norm",
        shape: format!("{batch}x{side}x{side}x{channels}"),
        settings: json!({ "eps": 1e-6 }),
        inputs: vec![
            Input::normal("x", &[batch, side * side, channels], 1.0),
            Input::about("scale", &[channels], 1.0),
            Input::normal("bias", &[channels], 0.1),
        ],
        run: Rc::new(|t| layer_norm(&t[0], Some((&t[1], &t[2])), 1e-6)),
    }
}

fn copy(sizes: [usize; 3]) -> Graph {
    let [a, b, c] = sizes;
    Graph {
        op: "transposing copy",
        peer: "copy",
        shape: format!("{a}x{b}x{c} to {a}x{c}x{b}"),
        settings: json!({}),
        inputs: vec![Input::normal("x", &sizes, 1.0)],
        run: Rc::new(|t| permute(&t[0], &[0, 2, 1])),
    }
}

/// Images to patches, the numbers of a patch by row, column and channel.
fn cut() -> Graph {
    const PATCH: usize = 16;
    let [batch, channels, side] = [16, 3, 256];
    Graph {
        op: "images to patches",
        peer: "cut",
        shape: format!("{batch}x{channels}x{side}x{side} in {PATCH}x{PATCH}"),
        settings: json!({ "channels": channels, "patch": PATCH }),
        inputs: vec![Input::normal("x", &[batch, channels * side, side], 1.0)],
        run: Rc::new(move |t| {
            let grid = side / PATCH;
            let parts = t[0].reshape(&[batch, channels, grid, PATCH, grid, PATCH][..])?;
            permute(&parts, &[0, 2, 4, 3, 5, 1])?.reshape((batch, grid * grid, PATCH * PATCH * channels))
        }),
    }
}
