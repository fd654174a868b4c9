//! From latents to images.

use candle_core::Tensor;
use drifting_spec::KlDecoder;

use super::blocks::{Middle, Norm, Stage};
use crate::Result;
use crate::nn::Builder;
use crate::nn::frozen::{Convolution, Kernel};
use crate::ops;

/// Latents `[n, h, w, c]`, unscaled, to images `[n, r h, r w, c]`.
#[derive(Clone, Debug)]
pub(in crate::autoencoder) struct Decoder {
    quant: Option<Convolution>,
    first: Convolution,
    middle: Middle,
    stages: Vec<Stage>,
    norm: Norm,
    last: Convolution,
}

impl Decoder {
    pub(in crate::autoencoder) fn new(builder: &Builder, config: &KlDecoder) -> Result<Self> {
        let part = builder.part("decoder");
        let widths: Vec<usize> = config.widths.iter().rev().copied().collect();
        let (inner, outer, groups) = (widths[0], widths[widths.len() - 1], config.groups);
        let stage = |i: usize| {
            let builder = part.part("up_blocks").part(&i.to_string());
            let width = widths[i];
            let larger =
                || Convolution::new(&builder.part("upsamplers").part("0").part("conv"), Kernel::new(3, width, width));
            Ok::<_, crate::Error>(Stage {
                blocks: Stage::blocks(&builder, (widths[i.saturating_sub(1)], width), config.blocks, groups)?,
                resize: (i + 1 < widths.len()).then(larger).transpose()?,
            })
        };
        let latent = config.latent_channels;
        let quant = || Convolution::new(&builder.part("post_quant_conv"), Kernel::new(1, latent, latent));
        Ok(Self {
            quant: config.post_quant_conv.then(quant).transpose()?,
            first: Convolution::new(&part.part("conv_in"), Kernel::new(3, latent, inner))?,
            middle: Middle::new(&part.part("mid_block"), inner, groups, config.attention)?,
            stages: (0..widths.len()).map(stage).collect::<Result<_>>()?,
            norm: Norm::new(&part.part("conv_norm_out"), outer, groups)?,
            last: Convolution::new(&part.part("conv_out"), Kernel::new(3, outer, config.image_channels))?,
        })
    }

    pub(in crate::autoencoder) fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let x = self.quant.as_ref().map_or_else(|| Ok(latents.clone()), |quant| quant.forward(latents))?;
        let mut x = self.middle.forward(&self.first.forward(&x)?)?;
        for stage in &self.stages {
            for block in &stage.blocks {
                x = block.forward(&x)?;
            }
            if let Some(convolution) = &stage.resize {
                x = convolution.forward(&ops::upsample_nearest2(&x)?)?;
            }
        }
        self.last.forward(&self.norm.silu(&x)?)
    }
}
