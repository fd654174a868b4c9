//! One block and one stage of a ConvNeXt-V2 (Woo et al. 2023).

use candle_core::Tensor;

use super::EPSILON;
use crate::nn::frozen::{Affine, Convolution, Kernel};
use crate::nn::{Builder, Init};
use crate::{Result, ops};

/// x + narrow(GRN(GELU(widen(LayerNorm(depthwise 7x7 convolution of x))))).
#[derive(Clone, Debug)]
struct Block {
    depthwise: Convolution,
    norm: Affine,
    widen: Convolution,
    response: ResponseNorm,
    narrow: Convolution,
}

impl Block {
    fn new(builder: &Builder, width: usize) -> Result<Self> {
        Ok(Self {
            depthwise: Convolution::new(&builder.part("dwconv"), Kernel::new(7, width, width).depthwise())?,
            norm: Affine::new(&builder.part("layernorm"), width)?,
            widen: Convolution::linear(&builder.part("pwconv1"), width, 4 * width)?,
            response: ResponseNorm::new(&builder.part("grn"), 4 * width)?,
            narrow: Convolution::linear(&builder.part("pwconv2"), 4 * width, width)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.norm.layer_norm(&self.depthwise.forward(x)?, EPSILON)?;
        let y = self.response.forward(&ops::gelu(&self.widen.forward(&y)?)?)?;
        Ok((self.narrow.forward(&y)? + x)?)
    }
}

/// Global response normalisation: channels that respond more than the others over the whole image grow.
#[derive(Clone, Debug)]
struct ResponseNorm {
    scale: Tensor,
    shift: Tensor,
}

impl ResponseNorm {
    fn new(builder: &Builder, width: usize) -> Result<Self> {
        // Published networks hold learned numbers; zeros would take the normalisation out of made-up ones.
        let scale = builder.param("weight", &[1, 1, 1, width], Init::Normal(0.5))?;
        Ok(Self { scale, shift: builder.param("bias", &[1, 1, 1, width], Init::Normal(0.1))? })
    }

    /// scale * x * n + shift + x with n = g / (mean of g over channels + 1e-6), g = sqrt(sum of x^2 over space + 1e-6).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let response = (x.sqr()?.sum_keepdim((1, 2))? + f64::from(EPSILON))?.sqrt()?;
        let relative = response.broadcast_div(&(response.mean_keepdim(3)? + f64::from(EPSILON))?)?;
        let factor = (relative.broadcast_mul(&self.scale)? + 1.0)?;
        Ok(x.broadcast_mul(&factor)?.broadcast_add(&self.shift)?)
    }
}

/// Halving of the sides (not in the first stage), then blocks.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    smaller: Option<(Affine, Convolution)>,
    blocks: Vec<Block>,
}

impl Stage {
    /// `depth` blocks of `width`, after a stage of `before`.
    pub(super) fn new(builder: &Builder, before: Option<usize>, width: usize, depth: usize) -> Result<Self> {
        let smaller = |before: usize| {
            let builder = builder.part("downsampling_layer");
            let kernel = Kernel::patches(2, before, width);
            let norm = Affine::new(&builder.part("0"), before)?;
            Ok::<_, crate::Error>((norm, Convolution::new(&builder.part("1"), kernel)?))
        };
        let blocks = builder.part("layers");
        let block = |i: usize| Block::new(&blocks.part(&i.to_string()), width);
        Ok(Self { smaller: before.map(smaller).transpose()?, blocks: (0..depth).map(block).collect::<Result<_>>()? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        if let Some((norm, convolution)) = &self.smaller {
            x = convolution.forward(&norm.layer_norm(&x, EPSILON)?)?;
        }
        self.blocks.iter().try_fold(x, |x, block| block.forward(&x))
    }
}
