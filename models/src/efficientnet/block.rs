//! Inverted bottlenecks.

use candle_core::Tensor;

use crate::Result;
use crate::nn::Builder;
use crate::nn::frozen::{Convolution, folded};
use crate::ops::{Conv, Padding};

/// Added to variances.
const EPSILON: f64 = 1e-3;

/// How a kernel of `side` moves over an image of even sides, padded as TensorFlow's SAME: more behind than before.
pub(super) fn square(side: usize, stride: usize) -> Conv {
    let zeros = side - stride.min(side);
    let (before, behind) = (zeros / 2, zeros - zeros / 2);
    Conv { stride, padding: Padding { top: before, bottom: behind, left: before, right: behind }, groups: 1 }
}

/// A convolution and the normalisation behind it.
fn normalised(builder: &Builder, (conv, norm): (&str, &str), shape: [usize; 4], how: Conv) -> Result<Convolution> {
    let (weight, bias) = folded(&builder.part(conv), &builder.part(norm), &shape, EPSILON)?;
    Convolution::of(&weight, Some(bias), how)
}

/// ReLU6(normalised convolution).
#[derive(Clone, Debug)]
pub(super) struct Unit(Convolution);

impl Unit {
    /// Takes a weight of `shape`, `[out, in / groups, side, side]`.
    pub(super) fn new(builder: &Builder, names: (&str, &str), shape: [usize; 4], conv: Conv) -> Result<Self> {
        Ok(Self(normalised(builder, names, shape, conv)?))
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.0.forward(x)?.clamp(0f32, 6f32)?)
    }
}

/// narrow(depthwise(widen(x))), and x where that has its shape.
#[derive(Clone, Debug)]
pub(super) struct Block {
    widen: Option<Unit>,
    depthwise: Unit,
    narrow: Convolution,
    skip: bool,
}

impl Block {
    pub(super) fn new(builder: &Builder, [inner, wide, out]: [usize; 3], (side, conv): (usize, Conv)) -> Result<Self> {
        let widen = || Unit::new(builder, ("_expand_conv", "_bn0"), [wide, inner, 1, 1], square(1, 1));
        let depthwise = Conv { groups: wide, ..conv };
        Ok(Self {
            widen: (wide != inner).then(widen).transpose()?,
            depthwise: Unit::new(builder, ("_depthwise_conv", "_bn1"), [wide, 1, side, side], depthwise)?,
            narrow: normalised(builder, ("_project_conv", "_bn2"), [out, wide, 1, 1], square(1, 1))?,
            skip: conv.stride == 1 && inner == out,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let wide = self.widen.as_ref().map_or_else(|| Ok(x.clone()), |widen| widen.forward(x))?;
        let y = self.narrow.forward(&self.depthwise.forward(&wide)?)?;
        Ok(if self.skip { (y + x)? } else { y })
    }
}
