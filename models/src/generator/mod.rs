//! The generator f(noise, style, class, alpha) (paper section 3.1 and appendix A.2): one forward pass, one image.

mod block;
mod conditioning;
mod patches;

use candle_core::{Device, Tensor};
use drifting_spec::{FinalLayer, GeneratorConfig, Inputs};

use self::block::Block;
use self::conditioning::Conditioning;
use crate::Result;
use crate::nn::{Builder, Init, Linear, ModulatedNorm, Params, Source};
use crate::ops::{self, Handover, Modulation, sine_cosine};

/// A diffusion transformer without time: adaLN-zero blocks over register and patch tokens.
#[derive(Clone, Debug)]
pub struct Generator {
    config: GeneratorConfig,
    params: Params,
    device: Device,
    conditioning: Conditioning,
    patch_embed: Linear,
    pos_embed: Option<Tensor>,
    registers: Option<Registers>,
    blocks: Vec<Block>,
    last: Last,
    handover: Option<Handover>,
}

/// In-context conditioning tokens: copies of a projected condition, each with an embedding of its own.
#[derive(Clone, Debug)]
struct Registers {
    proj: Linear,
    embed: Tensor,
}

/// The layer that writes patches.
#[derive(Clone, Debug)]
struct Last {
    modulation: Option<Linear>,
    norm: ModulatedNorm,
    out: Linear,
}

/// Numbers in all parameters of a generator, without building it.
///
/// # Errors
/// A configuration that contradicts itself.
pub fn parameter_count(config: &GeneratorConfig) -> Result<usize> {
    let builder = Builder::counting();
    Generator::build(config.clone(), builder.clone())?;
    Ok(builder.elements())
}

impl Generator {
    /// A generator with new or given parameters (f32).
    ///
    /// # Errors
    /// A configuration that contradicts itself; given tensors that do not match it exactly.
    pub fn new(config: GeneratorConfig, source: Source, device: &Device) -> Result<Self> {
        Self::build(config, Builder::new(source, device))
    }

    /// A generator that only makes images: its parameters are there, but a forward pass keeps nothing for gradients.
    ///
    /// # Errors
    /// As [`Generator::new`].
    pub fn inference(config: GeneratorConfig, source: Source, device: &Device) -> Result<Self> {
        Self::build(config, Builder::inference(source, device))
    }

    fn build(config: GeneratorConfig, builder: Builder) -> Result<Self> {
        config.validate()?;
        let hidden = config.hidden;
        let conditioning = Conditioning::new(&builder, &config)?;
        let patch_embed = Linear::new(&builder.part("patch_embed"), config.patch_len(), hidden, Init::Xavier)?;
        let pos_embed = match config.positions {
            true => {
                Some(builder.param("pos_embed", &[config.patches(), hidden], Init::Values(sine_cosine(&config)))?)
            }
            false => None,
        };
        let registers = match config.registers {
            0 => None,
            count => Some(Registers::new(&builder.part("register"), hidden, count)?),
        };
        let blocks = builder.part("blocks");
        let blocks =
            (0..config.depth).map(|i| Block::new(&blocks.part(&i.to_string()), &config)).collect::<Result<_>>()?;
        let last = Last::new(&builder.part("final"), &config)?;
        let device = builder.device().clone();
        let params = builder.finish()?;
        let handover = None;
        Ok(Self { config, params, device, conditioning, patch_embed, pos_embed, registers, blocks, last, handover })
    }

    /// This generator, whose blocks hand the gradients of their parameters over as soon as the way back has found them, last block
    /// first. Those of the others, and of blocks that are not one operation, are where they always are.
    #[must_use]
    pub fn handing(&self, handover: Handover) -> Self {
        Self { handover: Some(handover), ..self.clone() }
    }

    /// The architecture.
    #[must_use]
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// The parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The device of the parameters.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Generates images.
    ///
    /// Shapes: noise `[batch, channels, height, width]` f32, style `[batch, style tokens]` i64, class `[batch]` i64, alpha
    /// `[batch]` f32; result `[batch, channels, height, width]` f32.
    ///
    /// # Errors
    /// Shapes that do not fit each other or the configuration; a class or style code that does not exist.
    pub fn forward(&self, noise: &Tensor, style: &Tensor, class: &Tensor, alpha: &Tensor) -> Result<Tensor> {
        let condition = self.conditioning.forward(style, class, alpha)?;
        let mut x = self.patch_embed.forward(&patches::cut(noise, &self.config)?)?;
        if let Some(positions) = &self.pos_embed {
            x = x.broadcast_add(positions)?;
        }
        if let Some(registers) = &self.registers {
            x = Tensor::cat(&[&registers.forward(&condition)?, &x], 1)?;
        }
        let condition = ops::silu(&condition)?;
        for block in &self.blocks {
            x = block.forward(&x, &condition, self.handover.as_ref())?;
        }
        let x = x.narrow(1, self.config.registers, self.config.patches())?;
        patches::join(&self.last.forward(&x, &condition)?, &self.config)
    }

    /// Generates the images of a batch of host inputs, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// As [`Generator::forward`].
    pub fn run(&self, inputs: &Inputs) -> Result<Tensor> {
        let (batch, shape) = (inputs.batch(), self.config.image);
        let dims = (batch, shape.channels, shape.height, shape.width);
        let noise = Tensor::from_slice(&inputs.noise, dims, &self.device)?;
        let style = Tensor::from_slice(&inputs.style, (batch, self.config.style_tokens), &self.device)?;
        let class = Tensor::from_slice(&inputs.class, batch, &self.device)?;
        let alpha = Tensor::from_slice(&inputs.alpha, batch, &self.device)?;
        self.forward(&noise, &style, &class, &alpha)
    }
}

impl Registers {
    fn new(builder: &Builder, hidden: usize, count: usize) -> Result<Self> {
        let proj = Linear::new(&builder.part("proj"), hidden, hidden, Init::Xavier)?;
        Ok(Self { proj, embed: builder.param("embed", &[count, hidden], Init::Normal(0.02))? })
    }

    /// `[batch, hidden]` to `[batch, registers, hidden]`.
    fn forward(&self, condition: &Tensor) -> Result<Tensor> {
        let token = self.proj.forward(condition)?.unsqueeze(1)?;
        Ok(token.broadcast_add(&self.embed.unsqueeze(0)?)?)
    }
}

impl Last {
    fn new(builder: &Builder, config: &GeneratorConfig) -> Result<Self> {
        let hidden = config.hidden;
        let norm = ModulatedNorm::new(&builder.part("norm"), config.norm, hidden, config.norm_affine)?;
        let (modulation, init) = match config.final_layer {
            FinalLayer::Adaln => {
                let modulation = Linear::new(&builder.part("modulation"), hidden, 2 * hidden, Init::Zeros)?;
                (Some(modulation), Init::Zeros)
            }
            FinalLayer::Linear => (None, Init::Xavier),
        };
        Ok(Self { modulation, norm, out: Linear::new(&builder.part("out"), hidden, config.patch_len(), init)? })
    }

    fn forward(&self, x: &Tensor, condition: &Tensor) -> Result<Tensor> {
        let x = match &self.modulation {
            Some(modulation) => {
                let columns = Modulation { shift: 0, scale: x.dim(2)? };
                self.norm.forward(x, &modulation.forward(condition)?, columns)?
            }
            None => self.norm.unmodulated(x)?,
        };
        self.out.forward(&x)
    }
}

#[cfg(test)]
mod tests;
