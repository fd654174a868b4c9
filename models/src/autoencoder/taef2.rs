//! TAEF2, a tiny autoencoder: 32 latent channels, sides reduced 8 times (`madebyollin/taesd`, MIT).
//!
//! Both halves are plain sequences of layers, and the published names are positions in them.

use std::path::Path;

use candle_core::{Device, Tensor};
use drifting_spec::{ImageShape, Stream};

use super::{Autoencoder, Reduction};
use crate::nn::frozen::{Affine, Convolution, Kernel, channels_first, channels_last};
use crate::nn::{Builder, Source};
use crate::ops::{self, GroupNorm};
use crate::weights::{self, hex};
use crate::{Error, Result};

pub(super) const ENCODER: &str = "taef2_enc.safetensors";
pub(super) const DECODER: &str = "taef2_dec.safetensors";

const REDUCTION: Reduction = Reduction { image_channels: 3, latent_channels: 32, side: 8 };
const WIDTH: usize = 64;
/// Width inside of a middle block's normalised branch, and its groups.
const BRANCH: (usize, usize) = (256, 4);
/// PyTorch's default of its normalisations.
const EPSILON: f32 = 1e-5;
/// Latents are squashed softly into (-3, 3) before they are decoded.
const LIMIT: f64 = 3.0;

/// The TAEF2 autoencoder. Its latents are used as they are, without a scale.
#[derive(Clone, Debug)]
pub struct Taef2 {
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    sha256: String,
}

impl Taef2 {
    /// From the tensors of its two published files.
    ///
    /// # Errors
    /// Tensors that are missing, left over, of another shape or not finite.
    pub fn new(encoder: Source, decoder: Source, device: &Device) -> Result<Self> {
        let encoder = whole(Builder::frozen(encoder, device), &encoder_plan())?;
        let decoder = whole(Builder::frozen(decoder, device), &decoder_plan())?;
        Ok(Self { encoder, decoder, sha256: String::new() })
    }

    /// Reads `taef2_enc.safetensors` and `taef2_dec.safetensors` of `folder`. The hash is that of both files' hashes.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(folder: &Path, device: &Device) -> Result<Self> {
        let half = |name: &str, plan: &[Plan]| {
            let path = folder.join(name);
            let file = weights::read(&path, device)?;
            let layers = whole(Builder::frozen(Source::Tensors(file.tensors), device), plan);
            Ok::<_, Error>((layers.map_err(|error| error.of_file(&path))?, file.sha256))
        };
        let (encoder, encoder_hash) = half(ENCODER, &encoder_plan())?;
        let (decoder, decoder_hash) = half(DECODER, &decoder_plan())?;
        Ok(Self { encoder, decoder, sha256: hex(format!("{encoder_hash} {decoder_hash}").as_bytes()) })
    }
}

impl Autoencoder for Taef2 {
    fn name(&self) -> &'static str {
        "taef2"
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }

    fn encode(&self, images: &Tensor) -> Result<Tensor> {
        REDUCTION.check(images)?;
        let x = images.affine(0.5, 0.5)?;
        channels_first(&run(&self.encoder, channels_last(&x)?)?)
    }

    fn sample(&self, images: &Tensor, _: &mut [Stream]) -> Result<Tensor> {
        self.encode(images)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        decode(&self.decoder, latents)
    }

    fn latent_shape(&self, image: ImageShape) -> Result<ImageShape> {
        REDUCTION.latent(image)
    }

    fn image_shape(&self, latent: ImageShape) -> Result<ImageShape> {
        REDUCTION.image(latent)
    }
}

/// A position of a sequence.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Convolution(Kernel),
    Block,
    MiddleBlock,
    Relu,
    Squash,
    Upsample,
}

fn encoder_plan() -> Vec<Plan> {
    use Plan::{Block, Convolution, MiddleBlock};
    let down = || Convolution(Kernel::new(3, WIDTH, WIDTH).stride(2).unbiased());
    let first = [Convolution(Kernel::new(3, REDUCTION.image_channels, WIDTH)), Block];
    let outer = [down(), Block, Block, Block];
    let middle = [down(), MiddleBlock, MiddleBlock, MiddleBlock];
    let last = [Convolution(Kernel::new(3, WIDTH, REDUCTION.latent_channels))];
    [&first[..], &outer, &outer, &middle, &last].concat()
}

fn decoder_plan() -> Vec<Plan> {
    use Plan::{Block, Convolution, MiddleBlock, Relu, Squash, Upsample};
    let first = [Squash, Convolution(Kernel::new(3, REDUCTION.latent_channels, WIDTH)), Relu];
    let middle = [MiddleBlock; 3];
    let up = [Upsample, Convolution(Kernel::new(3, WIDTH, WIDTH).unbiased())];
    let last = [Block, Convolution(Kernel::new(3, WIDTH, REDUCTION.image_channels))];
    [&first[..], &middle, &up, &[Block; 3], &up, &[Block; 3], &up, &last].concat()
}

/// The layers of the decoder.
///
/// # Errors
/// As [`Builder::param`].
pub(super) fn decoder(builder: &Builder) -> Result<Vec<Layer>> {
    build(builder, &decoder_plan())
}

/// The images of latents `[n, 32, h, w]` by the layers of [`decoder`].
pub(super) fn decode(decoder: &[Layer], latents: &Tensor) -> Result<Tensor> {
    let y = channels_first(&run(decoder, channels_last(latents)?)?)?;
    Ok(y.affine(2.0, -1.0)?)
}

fn whole(builder: Builder, plan: &[Plan]) -> Result<Vec<Layer>> {
    let layers = build(&builder, plan)?;
    builder.finish()?;
    Ok(layers)
}

fn build(builder: &Builder, plan: &[Plan]) -> Result<Vec<Layer>> {
    let layer = |(position, plan): (usize, &Plan)| {
        let builder = builder.part(&position.to_string());
        Ok(match *plan {
            Plan::Convolution(kernel) => Layer::Convolution(Convolution::new(&builder, kernel)?),
            Plan::Block => Layer::Block(Box::new(Block::new(&builder, false)?)),
            Plan::MiddleBlock => Layer::Block(Box::new(Block::new(&builder, true)?)),
            Plan::Relu => Layer::Relu,
            Plan::Squash => Layer::Squash,
            Plan::Upsample => Layer::Upsample,
        })
    };
    plan.iter().enumerate().map(layer).collect()
}

fn run(layers: &[Layer], x: Tensor) -> Result<Tensor> {
    layers.iter().try_fold(x, |x, layer| layer.forward(&x))
}

/// A layer of one of the halves.
#[derive(Clone, Debug)]
pub(super) enum Layer {
    Convolution(Convolution),
    Block(Box<Block>),
    Relu,
    Squash,
    Upsample,
}

impl Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Convolution(convolution) => convolution.forward(x)?,
            Self::Block(block) => block.forward(x)?,
            Self::Relu => x.relu()?,
            Self::Squash => ((x / LIMIT)?.tanh()? * LIMIT)?,
            Self::Upsample => ops::upsample_nearest2(x)?,
        })
    }
}

/// ReLU(convolutions(x) + x); a middle block adds a normalised branch to x before.
#[derive(Clone, Debug)]
pub(super) struct Block {
    branch: Option<(Convolution, Affine, Convolution)>,
    convolutions: [Convolution; 3],
}

impl Block {
    fn new(builder: &Builder, middle: bool) -> Result<Self> {
        let branch = || {
            let builder = builder.part("pool");
            let widen = Convolution::new(&builder.part("0"), Kernel::new(1, WIDTH, BRANCH.0).unbiased())?;
            let norm = Affine::new(&builder.part("1"), BRANCH.0)?;
            let narrow = Convolution::new(&builder.part("3"), Kernel::new(1, BRANCH.0, WIDTH).unbiased())?;
            Ok::<_, Error>((widen, norm, narrow))
        };
        let convolution = |name| Convolution::new(&builder.part("conv").part(name), Kernel::new(3, WIDTH, WIDTH));
        let convolutions = [convolution("0")?, convolution("2")?, convolution("4")?];
        Ok(Self { branch: middle.then(branch).transpose()?, convolutions })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        if let Some((widen, norm, narrow)) = &self.branch {
            let settings = GroupNorm { groups: BRANCH.1, eps: EPSILON, relu: true };
            x = (&x + narrow.forward(&norm.group_norm(&widen.forward(&x)?, settings)?)?)?;
        }
        let [first, second, third] = &self.convolutions;
        let y = third.forward(&second.forward(&first.forward(&x)?.relu()?)?.relu()?)?;
        Ok((y + x)?.relu()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::{KINKED, gradient_is_slope, random};

    fn model() -> Taef2 {
        Taef2::new(Source::Seed(1), Source::Seed(2), &Device::Cpu).unwrap()
    }

    #[test]
    fn gradients_reach_images_and_latents() {
        let model = model();
        gradient_is_slope(&[1, 3, 16, 16], KINKED, |images| Ok(vec![model.encode(images)?]));
        gradient_is_slope(&[1, 32, 2, 2], KINKED, |latents| Ok(vec![model.decode(latents)?]));
    }

    #[test]
    fn shapes_are_those_of_the_results() {
        let model = model();
        let image = ImageShape { channels: 3, height: 16, width: 24 };
        let latent = ImageShape { channels: 32, height: 2, width: 3 };
        assert_eq!((model.latent_shape(image).unwrap(), model.image_shape(latent).unwrap()), (latent, image));
        let latents = model.encode(&random("images", &[1, 3, 16, 24])).unwrap();
        assert_eq!(latents.dims(), [1, 32, 2, 3]);
        assert_eq!(model.decode(&latents).unwrap().dims(), [1, 3, 16, 24]);
        assert!(model.encode(&random("images", &[1, 3, 12, 16])).is_err());
        assert!(model.encode(&random("images", &[1, 1, 16, 16])).is_err());
    }

    #[test]
    fn a_file_that_is_no_half_is_named() {
        let folder = tempfile::tempdir().unwrap();
        weights::write(&folder.path().join(ENCODER), &BTreeMap::new(), &BTreeMap::new()).unwrap();
        let message = Taef2::open(folder.path(), &Device::Cpu).unwrap_err().to_string();
        assert!(message.contains(ENCODER) && message.contains("tensor 0.weight is missing"), "{message}");
    }
}
