//! From images to distributions over latents.

use candle_core::Tensor;

use super::AutoencoderKlConfig;
use super::blocks::{Middle, Norm, Stage};
use crate::Result;
use crate::nn::Builder;
use crate::nn::frozen::{Convolution, Kernel};
use crate::ops::Padding;

/// Images `[n, h, w, c]` to means and log variances `[n, h / r, w / r, 2 latent channels]`.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    first: Convolution,
    stages: Vec<Stage>,
    middle: Middle,
    norm: Norm,
    last: Convolution,
    quant: Option<Convolution>,
}

impl Encoder {
    pub(super) fn new(builder: &Builder, config: &AutoencoderKlConfig) -> Result<Self> {
        let part = builder.part("encoder");
        let (widths, groups) = (&config.block_out_channels, config.norm_num_groups);
        let (outer, inner) = (widths[0], widths[widths.len() - 1]);
        let stage = |i: usize| {
            let builder = part.part("down_blocks").part(&i.to_string());
            let width = widths[i];
            // Rows and columns are added below and to the right only.
            let padding = Padding { bottom: 1, right: 1, ..Padding::default() };
            let kernel = Kernel::new(3, width, width).stride(2).padding(padding);
            let smaller = || Convolution::new(&builder.part("downsamplers").part("0").part("conv"), kernel);
            Ok::<_, crate::Error>(Stage {
                blocks: Stage::blocks(&builder, (widths[i.saturating_sub(1)], width), config.layers_per_block, groups)?,
                resize: (i + 1 < widths.len()).then(smaller).transpose()?,
            })
        };
        let latent = 2 * config.latent_channels;
        let quant = || Convolution::new(&builder.part("quant_conv"), Kernel::new(1, latent, latent));
        Ok(Self {
            first: Convolution::new(&part.part("conv_in"), Kernel::new(3, config.in_channels, outer))?,
            stages: (0..widths.len()).map(stage).collect::<Result<_>>()?,
            middle: Middle::new(&part.part("mid_block"), inner, groups, config.mid_block_add_attention)?,
            norm: Norm::new(&part.part("conv_norm_out"), inner, groups)?,
            last: Convolution::new(&part.part("conv_out"), Kernel::new(3, inner, latent))?,
            quant: config.use_quant_conv.then(quant).transpose()?,
        })
    }

    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = self.first.forward(images)?;
        for stage in &self.stages {
            for block in &stage.blocks {
                x = block.forward(&x)?;
            }
            if let Some(smaller) = &stage.resize {
                x = smaller.forward(&x)?;
            }
        }
        let x = self.last.forward(&self.norm.silu(&self.middle.forward(&x)?)?)?;
        self.quant.as_ref().map_or_else(|| Ok(x.clone()), |quant| quant.forward(&x))
    }
}
