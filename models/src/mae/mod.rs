//! The masked autoencoder whose encoder is the feature space of the drifting loss (paper appendix A.3).
//!
//! Images are `[n, c, h, w]` at the border and channels-last inside. With input patch p, base width C and a grid of
//! h/p x w/p positions (h and w below):
//!
//! | part | parameters | what it does | result |
//! |---|---|---|---|
//! | patches | | p x p pixels become one position, numbers in the order row, column, channel | `x`: h, w, p p c |
//! | stem | `encoder.conv1`, `encoder.gn1` | 3x3 convolution, GroupNorm, ReLU | `conv1`: h, w, C |
//! | stage 1 | `encoder.stages.0.layers.B.*`, `encoder.layer1_norm` | 3 residual blocks, GroupNorm | `layer1`: h, w, C |
//! | stage 2 | `encoder.stages.1.layers.B.*`, `encoder.layer2_norm` | 4 blocks, the first of stride 2 | `layer2`: h/2, w/2, 2C |
//! | stage 3 | `encoder.stages.2.layers.B.*`, `encoder.layer3_norm` | 6 blocks | `layer3`: h/4, w/4, 4C |
//! | stage 4 | `encoder.stages.3.layers.B.*`, `encoder.layer4_norm` | 3 blocks | `layer4`: h/8, w/8, 8C |
//! | classifier | `fc` | mean of `layer4` over its positions, linear | classes |
//! | bridge | `decoder.bridge` | 3x3 convolution, GroupNorm, ReLU on `layer4` | h/8, w/8, 8C |
//! | up blocks | `decoder.up43`, `up32`, `up21`, `up10` | bilinear resize, join with `layer3`, `layer2`, `layer1`, `conv1`; GroupNorm, two 3x3 convolutions with GroupNorm and ReLU | up to h, w, C |
//! | head | `decoder.head` | 1x1 convolution with bias | h, w, p p c |
//!
//! A block's `conv1`, `gn1`, `conv2`, `gn2` are its body, `proj_conv` and `proj_gn` its skip where the shape changes.
//! Convolution weights are `[side, side, in, out]` and named `weight`; a norm's `weight` and `bias` are `[channels]`;
//! `fc.weight` is `[classes, 8C]`. The names are those of the official release with dots (method section 20), which
//! [`import_mae`](crate::weights::import_mae)
//! relies on.

mod block;
mod cost;
mod decoder;
mod encoder;
mod layers;
mod patches;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use drifting_spec::MaeConfig;

pub use self::cost::{MaeFlops, mae_flops};
use self::decoder::Decoder;
use self::encoder::Encoder;
use crate::Result;
use crate::nn::{Builder, Init, Linear, Params, Source};

/// Blocks from one map inside a stage to the next (paper appendix A.5).
const TAP_EVERY: usize = 2;

/// The patched images among the maps of [`Mae::encode`].
pub const INPUT_MAP: &str = "x";

/// A named map of an encoder.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    /// Name, such as `layer2_blk4`.
    pub name: String,
    /// `[n, h, w, C]`.
    pub map: Tensor,
}

/// A masked reconstruction in the patched space.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    /// What the decoder made of the masked images, `[n, h, w, p p c]`.
    pub recon: Tensor,
    /// The images without mask, `[n, h, w, p p c]`.
    pub target: Tensor,
    /// Of the classifier head on the masked images, `[n, classes]`.
    pub logits: Tensor,
}

/// Encoder, decoder and classifier head.
#[derive(Clone, Debug)]
pub struct Mae {
    config: MaeConfig,
    params: Params,
    device: Device,
    encoder: Encoder,
    decoder: Decoder,
    classifier: Linear,
}

/// Numbers in all parameters of a masked autoencoder, without building it.
///
/// # Errors
/// A configuration that contradicts itself.
pub fn mae_parameter_count(config: &MaeConfig) -> Result<usize> {
    let builder = Builder::counting();
    Mae::build(config.clone(), builder.clone())?;
    Ok(builder.elements())
}

/// Names and shapes of all parameters of a masked autoencoder, without building it.
pub(crate) fn mae_parameter_shapes(config: &MaeConfig) -> Result<BTreeMap<String, Vec<usize>>> {
    let builder = Builder::counting();
    Mae::build(config.clone(), builder.clone())?;
    Ok(builder.shapes())
}

impl Mae {
    /// A masked autoencoder with new or given parameters (f32), all of them trainable.
    ///
    /// # Errors
    /// A configuration that contradicts itself; given tensors that do not match it exactly.
    pub fn new(config: MaeConfig, source: Source, device: &Device) -> Result<Self> {
        Self::build(config, Builder::new(source, device))
    }

    /// As [`Mae::new`], with parameters that are constants: gradients flow through the network to its input, and none is
    /// computed for its weights. [`Mae::params`] is empty.
    ///
    /// # Errors
    /// As [`Mae::new`].
    pub fn frozen(config: MaeConfig, source: Source, device: &Device) -> Result<Self> {
        Self::build(config, Builder::frozen(source, device))
    }

    fn build(config: MaeConfig, builder: Builder) -> Result<Self> {
        config.validate()?;
        let encoder = Encoder::new(&builder.part("encoder"), &config)?;
        let decoder = Decoder::new(&builder.part("decoder"), &config)?;
        let features = config.channels(3);
        let init = Init::LeCun { fan_in: features };
        let classifier = Linear::new(&builder.part("fc"), features, config.classes, init)?;
        let device = builder.device().clone();
        let params = builder.finish()?;
        Ok(Self { config, params, device, encoder, decoder, classifier })
    }

    /// The architecture.
    #[must_use]
    pub fn config(&self) -> &MaeConfig {
        &self.config
    }

    /// The trainable parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The device of the parameters.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The maps of `images` `[n, c, h, w]`, unmasked: the patched images under [`INPUT_MAP`], then `conv1` (with
    /// `stem_tap`), `layer1`, its `layer1_blk2`, ..., `layer4`, ...
    ///
    /// # Errors
    /// Images of another shape.
    pub fn encode(&self, images: &Tensor) -> Result<Vec<FeatureMap>> {
        let x = patches::cut(images, &self.config)?;
        let encoded = self.encoder.forward(&x)?;
        let mut maps = vec![FeatureMap { name: INPUT_MAP.to_owned(), map: x }];
        maps.extend(encoded.into_maps(self.config.stem_tap));
        Ok(maps)
    }

    /// Names and `[h, w, C]` of the maps of [`Mae::encode`], in its order.
    #[must_use]
    pub fn map_shapes(&self) -> Vec<(String, [usize; 3])> {
        mae_map_shapes(&self.config)
    }

    /// Reconstructs masked images (method section 7.2): masked positions are zero for the encoder.
    ///
    /// Shapes: images `[n, c, h, w]`, mask `[n, h/p, w/p]` of 0 (seen) and 1 (masked).
    ///
    /// # Errors
    /// Images or a mask of another shape.
    pub fn reconstruct(&self, images: &Tensor, mask: &Tensor) -> Result<Reconstruction> {
        let target = patches::cut(images, &self.config)?;
        let seen = target.broadcast_mul(&patches::seen(mask, &target)?)?;
        let encoded = self.encoder.forward(&seen)?;
        let recon = self.decoder.forward(&encoded)?;
        let [.., deepest] = &encoded.stages;
        let logits = self.classifier.forward(&deepest.map.mean((1, 2))?)?;
        Ok(Reconstruction { recon, target, logits })
    }
}

impl Reconstruction {
    /// Squared error of each image, `[n]`: summed over the channels of a position and averaged over the masked positions
    /// of `mask` `[n, h/p, w/p]` (method section 7.2).
    ///
    /// # Errors
    /// A mask of another shape.
    pub fn loss(&self, mask: &Tensor) -> Result<Tensor> {
        let error = (&self.recon - &self.target)?.sqr()?.sum(3)?;
        let masked = (mask.sum((1, 2))? + 1e-8)?;
        Ok(((error * mask)?.sum((1, 2))? / masked)?)
    }
}

/// Names and `[h, w, C]` of the maps that an encoder of this configuration gives, without building it.
#[must_use]
pub fn mae_map_shapes(config: &MaeConfig) -> Vec<(String, [usize; 3])> {
    let shape = |stage: usize| {
        let (rows, columns) = config.stage_grid(stage);
        [rows, columns, config.channels(stage)]
    };
    let (rows, columns) = config.grid();
    let mut maps = vec![(INPUT_MAP.to_owned(), [rows, columns, config.patch_len()])];
    if config.stem_tap {
        maps.push(("conv1".to_owned(), shape(0)));
    }
    for (stage, &blocks) in config.blocks.iter().enumerate() {
        maps.push((format!("layer{}", stage + 1), shape(stage)));
        let tapped = (1..=blocks).filter(|&number| encoder::taps_block(blocks, config.stage_norm, number));
        maps.extend(tapped.map(|number| (format!("layer{}_blk{number}", stage + 1), shape(stage))));
    }
    maps
}
