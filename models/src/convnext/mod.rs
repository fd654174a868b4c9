//! ConvNeXt-V2 as a second encoder of pixel models (method section 8): its published weights, its feature maps.

mod block;
mod config;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use self::block::Stage;
pub use self::config::ConvNextConfig;
use self::config::PATCH;
use crate::nn::frozen::{Affine, Convolution, Kernel, channels_last};
use crate::nn::{Builder, Source};
use crate::{Error, FeatureMap, Result, ops, weights};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
/// Added to variances and responses.
const EPSILON: f32 = 1e-6;
/// Added to the deviation over channels of a map that is standardised.
const DEVIATION_FLOOR: f64 = 1e-3;
/// Of each colour of pixels in [0, 1], as ImageNet's networks are trained.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
/// The pooled maps, after those of the stages.
const POOLED: [&str; 2] = ["global_mean", "global_std"];

/// A ConvNeXt-V2 with fixed weights; gradients reach the images.
#[derive(Clone, Debug)]
pub struct ConvNext {
    config: ConvNextConfig,
    patches: (Convolution, Affine),
    stages: Vec<Stage>,
    norm: Affine,
    sha256: String,
}

impl ConvNext {
    /// From the tensors of a `ConvNextV2Model` under their published names, or with made-up weights.
    ///
    /// # Errors
    /// A configuration that contradicts itself; tensors that are missing, left over, of another shape or not finite.
    pub fn new(config: ConvNextConfig, source: Source, device: &Device) -> Result<Self> {
        config.check().map_err(|problem| Error::Input { problem: format!("ConvNeXt-V2: {problem}") })?;
        let builder = Builder::frozen(source, device);
        let embeddings = builder.part("embeddings");
        let widths = config.hidden_sizes;
        let kernel = Kernel::patches(PATCH, 3, widths[0]);
        let patches = (
            Convolution::new(&embeddings.part("patch_embeddings"), kernel)?,
            Affine::new(&embeddings.part("layernorm"), widths[0])?,
        );
        let stages = builder.part("encoder").part("stages");
        let stage = |i: usize| {
            let before = i.checked_sub(1).map(|before| widths[before]);
            Stage::new(&stages.part(&i.to_string()), before, widths[i], config.depths[i])
        };
        let stages = (0..widths.len()).map(stage).collect::<Result<_>>()?;
        let norm = Affine::new(&builder.part("layernorm"), widths[3])?;
        builder.finish()?;
        Ok(Self { config, patches, stages, norm, sha256: String::new() })
    }

    /// Reads `config.json` and `model.safetensors` of `folder`, of the network alone or with its classifier, whose weights
    /// are left out.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(folder: &Path, device: &Device) -> Result<Self> {
        let config = ConvNextConfig::read(&folder.join(CONFIG))?;
        let path = folder.join(WEIGHTS);
        let file = weights::read(&path, device)?;
        let tensors: BTreeMap<_, _> = file
            .tensors
            .into_iter()
            .filter(|(name, _)| !name.starts_with("classifier."))
            .map(|(name, tensor)| (name.strip_prefix("convnextv2.").unwrap_or(&name).to_owned(), tensor))
            .collect();
        let model = Self::new(config, Source::Tensors(tensors), device).map_err(|error| error.of_file(&path))?;
        Ok(Self { sha256: file.sha256, ..model })
    }

    /// The architecture.
    #[must_use]
    pub fn config(&self) -> &ConvNextConfig {
        &self.config
    }

    /// SHA-256 of the weight file in hexadecimal; empty when the weights were not read from a file.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Names and shapes `[h, w, C]` of the maps of [`encode`](Self::encode).
    #[must_use]
    pub fn map_shapes(&self) -> Vec<(String, [usize; 3])> {
        let (widths, sides) = (self.config.hidden_sizes, self.config.sides());
        let stages = (0..widths.len()).map(|i| (stage_name(i), [sides[i], sides[i], widths[i]]));
        stages.chain(POOLED.map(|name| (name.to_owned(), [1, 1, widths[3]]))).collect()
    }

    /// The maps of images `[n, 3, h, w]` in [-1, 1], which are not clipped and resized to the network's side: `convnext0`
    /// to `convnext3`, the stages' outputs standardised over the channels of each position, and the pooled `global_mean`
    /// (normalised mean over space of the last output) and `global_std` (deviation over space of `convnext3`).
    ///
    /// The paper's 13 keys are `convnext1` to `convnext3` as they are, mean and deviation over space of all four, and the
    /// two pooled maps.
    ///
    /// # Errors
    /// Images without three channels.
    pub fn encode(&self, images: &Tensor) -> Result<Vec<FeatureMap>> {
        let (_, channels, ..) = images.dims4()?;
        if channels != 3 {
            return Err(Error::Input { problem: format!("ConvNeXt-V2: images of {channels} channels, expected 3") });
        }
        let (convolution, norm) = &self.patches;
        let mut y = norm.layer_norm(&convolution.forward(&self.prepared(images)?)?, EPSILON)?;
        let mut maps = Vec::with_capacity(self.stages.len() + POOLED.len());
        for (i, stage) in self.stages.iter().enumerate() {
            y = stage.forward(&y)?;
            maps.push(FeatureMap { name: stage_name(i), map: standardised(&y)? });
        }
        let mean = self.norm.layer_norm(&y.mean_keepdim((1, 2))?, EPSILON)?;
        let deviation = maps.last().map(|last| deviation(&last.map)).transpose()?;
        let pooled = POOLED.into_iter().zip([Some(mean), deviation].into_iter().flatten());
        maps.extend(pooled.map(|(name, map)| FeatureMap { name: name.to_owned(), map }));
        Ok(maps)
    }

    /// Colours as the network was trained on, resized: `[n, side, side, 3]`.
    fn prepared(&self, images: &Tensor) -> Result<Tensor> {
        let (mean, deviation) = (Tensor::new(&MEAN, images.device())?, Tensor::new(&DEVIATION, images.device())?);
        let x = channels_last(&images.affine(0.5, 0.5)?)?.broadcast_sub(&mean)?.broadcast_div(&deviation)?;
        let side = self.config.image_size;
        Ok(ops::resize_bilinear_antialias(&x, (side, side))?)
    }
}

fn stage_name(stage: usize) -> String {
    format!("convnext{stage}")
}

/// (y - mean) / (deviation + 1e-3) over the channels of each position.
fn standardised(y: &Tensor) -> Result<Tensor> {
    let centred = y.broadcast_sub(&y.mean_keepdim(3)?)?;
    // The tiny term keeps the root's slope finite where all channels are equal.
    let deviation = (centred.sqr()?.mean_keepdim(3)? + 1e-20)?.sqrt()?;
    Ok(centred.broadcast_div(&(deviation + DEVIATION_FLOOR)?)?)
}

/// sqrt(variance + 1e-6) over space, `[n, 1, 1, C]`.
fn deviation(z: &Tensor) -> Result<Tensor> {
    let centred = z.broadcast_sub(&z.mean_keepdim((1, 2))?)?;
    Ok((centred.sqr()?.mean_keepdim((1, 2))? + f64::from(EPSILON))?.sqrt()?)
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
