//! The decoder of masked training: back up the stages, each step joined with the encoder's map of its side.

use candle_core::Tensor;
use drifting_spec::MaeConfig;

use super::encoder::Encoded;
use super::layers::{ConvNorm, Norm, Shape};
use crate::Result;
use crate::nn::{Builder, Init};
use crate::ops::{Conv, conv2d, resize_bilinear};

/// Bridge, up blocks and the head that writes the patched image.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    bridge: ConvNorm,
    ups: Vec<Up>,
    weight: Tensor,
    bias: Tensor,
}

/// Joins a coarse map with a finer one of the encoder.
#[derive(Clone, Debug)]
struct Up {
    norm: Norm,
    proj: ConvNorm,
    refine: ConvNorm,
}

/// Names of the up blocks: from stage to stage, the last one to the stem.
const UPS: [&str; 4] = ["up43", "up32", "up21", "up10"];

impl Decoder {
    pub(super) fn new(builder: &Builder, config: &MaeConfig) -> Result<Self> {
        let deepest = config.channels(3);
        let bridge = conv3(&builder.part("bridge"), config, deepest, deepest)?;
        let mut from = deepest;
        let mut ups = Vec::new();
        for (i, name) in UPS.iter().take(config.up_blocks).enumerate() {
            let to = config.channels(2usize.saturating_sub(i));
            ups.push(Up::new(&builder.part(name), config, [from, to])?);
            from = to;
        }
        let (head, out) = (builder.part("head"), config.patch_len());
        let weight = head.param("weight", &[1, 1, from, out], Init::LeCun { fan_in: from })?;
        Ok(Self { bridge, ups, weight, bias: head.param("bias", &[out], Init::Zeros)? })
    }

    /// The patched image `[n, h, w, patch_len]` from the encoder's maps.
    pub(super) fn forward(&self, encoded: &Encoded) -> Result<Tensor> {
        let [layer1, layer2, layer3, layer4] = &encoded.stages;
        let mut x = self.bridge.forward(&layer4.map)?;
        for (up, skip) in self.ups.iter().zip([&layer3.map, &layer2.map, &layer1.map, &encoded.stem]) {
            x = up.forward(&x, skip)?;
        }
        Ok(conv2d(&x, &self.weight, Some(&self.bias), Conv::new(1, 0))?)
    }
}

impl Up {
    /// `from` channels from below and `to` from the encoder become `to`.
    fn new(builder: &Builder, config: &MaeConfig, [from, to]: [usize; 2]) -> Result<Self> {
        Ok(Self {
            norm: Norm::new(&builder.part("concat_norm"), config, from + to, false)?,
            proj: conv3(&builder.part("proj"), config, from + to, to)?,
            refine: conv3(&builder.part("refine"), config, to, to)?,
        })
    }

    fn forward(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        let (_, h, w, _) = skip.dims4()?;
        let x = if x.dims()[1..3] == [h, w] { x.clone() } else { resize_bilinear(x, (h, w))? };
        let joined = Tensor::cat(&[&x, skip], 3)?;
        self.refine.forward(&self.proj.forward(&self.norm.forward(&joined)?)?)
    }
}

/// A 3x3 convolution with GroupNorm and ReLU under `conv` and `gn`.
fn conv3(builder: &Builder, config: &MaeConfig, from: usize, to: usize) -> Result<ConvNorm> {
    ConvNorm::new(builder, ["conv", "gn"], config, (Shape { side: 3, stride: 1, from, to }, true))
}
