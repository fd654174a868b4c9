//! Residual blocks.

use candle_core::Tensor;
use drifting_spec::{MaeBlock, MaeConfig};

use super::layers::{ConvNorm, Shape};
use crate::Result;
use crate::nn::Builder;
use crate::ops::{NormedConv, residual};

/// ReLU(skip(x) + body(x)).
#[derive(Clone, Debug)]
pub(super) struct Block {
    body: Vec<ConvNorm>,
    /// `None` where the shape stays.
    skip: Option<ConvNorm>,
}

impl Block {
    /// Parts `conv1`, `gn1`, `conv2`, `gn2` (and `conv3`, `gn3` of a bottleneck), `proj_conv`, `proj_gn`.
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
        let layer = |(i, &shape): (usize, &Shape)| {
            let names = [format!("conv{}", i + 1), format!("gn{}", i + 1)];
            ConvNorm::new(builder, [&names[0], &names[1]], config, (shape, i < last))
        };
        let body = shapes.iter().enumerate().map(layer).collect::<Result<_>>()?;
        let skip = match stride == 1 && from == to {
            true => None,
            false => {
                let names = ["proj_conv", "proj_gn"];
                Some(ConvNorm::new(builder, names, config, (shape(1, stride, from, to), false))?)
            }
        };
        Ok(Self { body, skip })
    }

    /// x `[n, h, w, from]` to `[n, ceil(h / stride), ceil(w / stride), to]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let body: Vec<NormedConv<'_>> = self.body.iter().map(ConvNorm::layer).collect();
        Ok(residual(x, &body, self.skip.as_ref().map(ConvNorm::layer))?)
    }
}
