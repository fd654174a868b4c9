//! The decoder of masked training: back up the stages, each step joined with the encoder's map of its side.

use candle_core::Tensor;
use drifting_spec::MaeConfig;

use super::encoder::Encoded;
use super::layers::{Around, Chain, Head, Layer, Norm, Shape};
use crate::Result;
use crate::nn::Builder;
use crate::ops::resize_bilinear;

/// Bridge, up blocks and the head that writes the patched image.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    bridge: Chain,
    ups: Vec<Up>,
    head: Head,
}

/// Joins a coarse map with a finer one of the encoder.
#[derive(Clone, Debug)]
struct Up {
    norm: Norm,
    proj_and_refine: Chain,
}

/// Names of the up blocks: from stage to stage, the last one to the stem.
const UPS: [&str; 4] = ["up43", "up32", "up21", "up10"];

impl Decoder {
    pub(super) fn new(builder: &Builder, config: &MaeConfig) -> Result<Self> {
        let deepest = config.channels(3);
        let bridge =
            Chain::new(&builder.part("bridge"), config, &[conv3(["conv", "gn"], deepest, deepest)], Around::Nothing)?;
        let mut from = deepest;
        let mut ups = Vec::new();
        for (i, name) in UPS.iter().take(config.up_blocks).enumerate() {
            let to = config.channels(2usize.saturating_sub(i));
            ups.push(Up::new(&builder.part(name), config, [from, to])?);
            from = to;
        }
        let head = Head::new(&builder.part("head"), from, config.patch_len())?;
        Ok(Self { bridge, ups, head })
    }

    /// The patched image `[n, h, w, patch_len]` from the encoder's maps.
    pub(super) fn forward(&self, encoded: &Encoded) -> Result<Tensor> {
        let [layer1, layer2, layer3, layer4] = &encoded.stages;
        let mut x = self.bridge.forward(&layer4.map)?;
        for (up, skip) in self.ups.iter().zip([&layer3.map, &layer2.map, &layer1.map, &encoded.stem]) {
            x = up.forward(&x, skip)?;
        }
        self.head.forward(&x)
    }
}

impl Up {
    /// `from` channels from below and `to` from the encoder become `to`.
    fn new(builder: &Builder, config: &MaeConfig, [from, to]: [usize; 2]) -> Result<Self> {
        let norm = Norm::new(&builder.part("concat_norm"), config, from + to)?;
        let layers = [conv3(["proj.conv", "proj.gn"], from + to, to), conv3(["refine.conv", "refine.gn"], to, to)];
        Ok(Self { norm, proj_and_refine: Chain::new(builder, config, &layers, Around::Nothing)? })
    }

    fn forward(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        let (_, h, w, _) = skip.dims4()?;
        let x = if x.dims()[1..3] == [h, w] { x.clone() } else { resize_bilinear(x, (h, w))? };
        let joined = Tensor::cat(&[&x, skip], 3)?;
        self.proj_and_refine.forward(&self.norm.forward(&joined)?)
    }
}

/// A 3x3 convolution with GroupNorm and ReLU.
fn conv3(names: [&str; 2], from: usize, to: usize) -> Layer<'_> {
    Layer { names, shape: Shape { side: 3, stride: 1, from, to }, relu: true }
}
