//! The parts that encoder and decoder are made of.

use candle_core::{DType, Tensor};
use drifting_spec::QkNorm;

use crate::Result;
use crate::nn::frozen::{Affine, Convolution, Kernel};
use crate::nn::{Builder, Init};
use crate::ops::{self, Attention, GroupNorm};

const EPSILON: f32 = 1e-6;

/// Group normalisation with learned scale and shift.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    affine: Affine,
    groups: usize,
}

impl Norm {
    pub(super) fn new(builder: &Builder, channels: usize, groups: usize) -> Result<Self> {
        Ok(Self { affine: Affine::new(builder, channels)?, groups })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.affine.group_norm(x, GroupNorm { groups: self.groups, eps: EPSILON, relu: false })
    }

    /// SiLU of the normalised x.
    pub(super) fn silu(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::silu(&self.forward(x)?)?)
    }
}

/// Skip(x) + convolution(SiLU(norm(convolution(SiLU(norm(x)))))).
#[derive(Clone, Debug)]
pub(super) struct Residual {
    norms: [Norm; 2],
    convolutions: [Convolution; 2],
    /// Where the number of channels changes.
    skip: Option<Convolution>,
}

impl Residual {
    pub(super) fn new(builder: &Builder, inner: usize, out: usize, groups: usize) -> Result<Self> {
        let norms =
            [Norm::new(&builder.part("norm1"), inner, groups)?, Norm::new(&builder.part("norm2"), out, groups)?];
        let convolution = |name, kernel| Convolution::new(&builder.part(name), kernel);
        let convolutions =
            [convolution("conv1", Kernel::new(3, inner, out))?, convolution("conv2", Kernel::new(3, out, out))?];
        let skip = (inner != out).then(|| convolution("conv_shortcut", Kernel::new(1, inner, out))).transpose()?;
        Ok(Self { norms, convolutions, skip })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = x.clone();
        for (norm, convolution) in self.norms.iter().zip(&self.convolutions) {
            y = convolution.forward(&norm.silu(&y)?)?;
        }
        let skip = self.skip.as_ref().map_or_else(|| Ok(x.clone()), |skip| skip.forward(x))?;
        Ok((skip + y)?)
    }
}

/// x + attention over all positions of norm(x), with one head.
#[derive(Clone, Debug)]
struct SelfAttention {
    norm: Norm,
    qkv: Convolution,
    out: Convolution,
    /// Gains that attention wants and does not read without normalisation of queries and keys.
    gains: Tensor,
}

impl SelfAttention {
    fn new(builder: &Builder, channels: usize, groups: usize) -> Result<Self> {
        let dense = |name: &str| {
            let builder = builder.part(name);
            let weight = builder.param("weight", &[channels, channels], Init::Xavier)?;
            Ok::<_, crate::Error>((weight, builder.param("bias", &[channels], Init::Zeros)?))
        };
        let ((wq, bq), (wk, bk), (wv, bv)) = (dense("to_q")?, dense("to_k")?, dense("to_v")?);
        Ok(Self {
            norm: Norm::new(&builder.part("group_norm"), channels, groups)?,
            qkv: Convolution::dense(&Tensor::cat(&[wq, wk, wv], 0)?, Tensor::cat(&[bq, bk, bv], 0)?)?,
            out: Convolution::linear(&builder.part("to_out").part("0"), channels, channels)?,
            gains: Tensor::ones((2, channels), DType::F32, builder.device())?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, height, width, channels) = x.dims4()?;
        let qkv = self.qkv.forward(&self.norm.forward(x)?)?.reshape((n, height * width, 3 * channels))?;
        let settings = Attention { heads: 1, qk_norm: QkNorm::Off, rotation: None };
        let mixed = ops::attention(&qkv, &self.gains, &settings)?.reshape((n, height, width, channels))?;
        Ok((self.out.forward(&mixed)? + x)?)
    }
}

/// The innermost part of both halves: block, attention, block.
#[derive(Clone, Debug)]
pub(super) struct Middle {
    first: Residual,
    attention: Option<SelfAttention>,
    last: Residual,
}

impl Middle {
    pub(super) fn new(builder: &Builder, channels: usize, groups: usize, attention: bool) -> Result<Self> {
        let block = |i| Residual::new(&builder.part("resnets").part(i), channels, channels, groups);
        let attend = || SelfAttention::new(&builder.part("attentions").part("0"), channels, groups);
        let attention = attention.then(attend).transpose()?;
        Ok(Self { first: block("0")?, attention, last: block("1")? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.first.forward(x)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        self.last.forward(&x)
    }
}

/// Residual blocks of one width, then a change of size unless it is the last stage.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) blocks: Vec<Residual>,
    pub(super) resize: Option<Convolution>,
}

impl Stage {
    /// `layers` blocks from `inner` to `out` channels.
    pub(super) fn blocks(
        builder: &Builder,
        widths: (usize, usize),
        layers: usize,
        groups: usize,
    ) -> Result<Vec<Residual>> {
        let (inner, out) = widths;
        let block = |i: usize| {
            let inner = if i == 0 { inner } else { out };
            Residual::new(&builder.part("resnets").part(&i.to_string()), inner, out, groups)
        };
        (0..layers).map(block).collect()
    }
}
