//! Residual blocks.

use candle_core::Tensor;
use drifting_spec::{MaeBlock, MaeConfig};

use super::layers::{Around, Chain, Layer, Shape};
use crate::Result;
use crate::nn::Builder;

/// ReLU(skip(x) + body(x)).
#[derive(Clone, Debug)]
pub(super) struct Block(Chain);

/// Names of the body's convolutions and norms.
const BODY: [[&str; 2]; 3] = [["conv1", "gn1"], ["conv2", "gn2"], ["conv3", "gn3"]];

impl Block {
    /// Parts `conv1`, `gn1`, `conv2`, `gn2` (and `conv3`, `gn3` of a bottleneck); where the shape changes `proj_conv` and
    /// `proj_gn`.
    pub(super) fn new(builder: &Builder, config: &MaeConfig, [from, to, stride]: [usize; 3]) -> Result<Self> {
        let shape = |side, stride, from, to| Shape { side, stride, from, to };
        let shapes = match config.block {
            MaeBlock::Basic => vec![shape(3, stride, from, to), shape(3, 1, to, to)],
            MaeBlock::Bottleneck => {
                let inner = to / 4;
                vec![shape(1, 1, from, inner), shape(3, stride, inner, inner), shape(1, 1, inner, to)]
            }
        };
        let last = shapes.len() - 1;
        let body = shapes.into_iter().zip(BODY).enumerate();
        let body: Vec<_> = body.map(|(i, (shape, names))| Layer { names, shape, relu: i < last }).collect();
        let around = match stride == 1 && from == to {
            true => Around::Identity,
            false => {
                let shape = shape(1, stride, from, to);
                Around::Projection(Layer { names: ["proj_conv", "proj_gn"], shape, relu: false })
            }
        };
        Ok(Self(Chain::new(builder, config, &body, around)?))
    }

    /// x `[n, h, w, from]` to `[n, ceil(h / stride), ceil(w / stride), to]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}
