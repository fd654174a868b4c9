//! The encoder: a stem and four stages of residual blocks.

use candle_core::Tensor;
use drifting_spec::MaeConfig;

use super::block::Block;
use super::layers::{Around, Chain, Layer, Norm, Shape};
use super::{FeatureMap, TAP_EVERY};
use crate::Result;
use crate::nn::Builder;

/// Stem and stages.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    stem: Chain,
    stages: [Stage; 4],
}

/// Blocks and the norm after them.
#[derive(Clone, Debug)]
struct Stage {
    blocks: Vec<Block>,
    norm: Option<Norm>,
}

/// What the encoder makes of a batch.
pub(super) struct Encoded {
    /// Output of the stem, `[n, h, w, C]`.
    pub(super) stem: Tensor,
    /// From `[n, h, w, C]` to `[n, h/8, w/8, 8C]`.
    pub(super) stages: [StageMaps; 4],
}

/// What one stage makes of a batch.
pub(super) struct StageMaps {
    /// Its output, after its norm.
    pub(super) map: Tensor,
    /// Outputs of every second block, with the block's number from 1.
    blocks: Vec<(usize, Tensor)>,
}

impl Encoder {
    /// Parts `conv1`, `gn1` and those of the stages.
    pub(super) fn new(builder: &Builder, config: &MaeConfig) -> Result<Self> {
        let shape = Shape { side: 3, stride: 1, from: config.patch_len(), to: config.base_channels };
        let stem = Layer { names: ["conv1", "gn1"], shape, relu: true };
        let stem = Chain::new(builder, config, &[stem], Around::Nothing)?;
        let stage = |number| Stage::new(builder, config, number);
        Ok(Self { stem, stages: [stage(0)?, stage(1)?, stage(2)?, stage(3)?] })
    }

    /// x `[n, h, w, patch_len]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Encoded> {
        let stem = self.stem.forward(x)?;
        let first = self.stages[0].forward(&stem)?;
        let second = self.stages[1].forward(&first.map)?;
        let third = self.stages[2].forward(&second.map)?;
        let fourth = self.stages[3].forward(&third.map)?;
        Ok(Encoded { stem, stages: [first, second, third, fourth] })
    }
}

/// Whether the output of block `number` (from 1) is a map of its own. Without a norm after the stage, the last block's
/// output is the stage's and no second map.
pub(super) fn taps_block(blocks: usize, stage_norm: bool, number: usize) -> bool {
    number.is_multiple_of(TAP_EVERY) && (stage_norm || number < blocks)
}

impl Stage {
    /// Parts `stages.S.layers.B` and `layer{S + 1}_norm`.
    fn new(builder: &Builder, config: &MaeConfig, stage: usize) -> Result<Self> {
        let to = config.channels(stage);
        let layers = builder.part("stages").part(&stage.to_string()).part("layers");
        let block = |i: usize| {
            let [from, stride] = match (stage, i) {
                (0, _) => [to, 1],
                (_, 0) => [to / 2, 2],
                _ => [to, 1],
            };
            Block::new(&layers.part(&i.to_string()), config, [from, to, stride])
        };
        let blocks = (0..config.blocks[stage]).map(block).collect::<Result<_>>()?;
        let norm = match config.stage_norm {
            true => Some(Norm::new(&builder.part(&format!("layer{}_norm", stage + 1)), config, to)?),
            false => None,
        };
        Ok(Self { blocks, norm })
    }

    fn forward(&self, x: &Tensor) -> Result<StageMaps> {
        let (mut x, mut blocks) = (x.clone(), Vec::new());
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            if taps_block(self.blocks.len(), self.norm.is_some(), i + 1) {
                blocks.push((i + 1, x.clone()));
            }
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        Ok(StageMaps { map: x, blocks })
    }
}

impl Encoded {
    /// The maps by name: stem (`conv1`), then each stage (`layer1`) followed by its blocks (`layer1_blk2`).
    pub(super) fn into_maps(self, stem_tap: bool) -> Vec<FeatureMap> {
        let mut maps = Vec::new();
        if stem_tap {
            maps.push(FeatureMap { name: "conv1".to_owned(), map: self.stem });
        }
        for (i, StageMaps { map, blocks }) in self.stages.into_iter().enumerate() {
            maps.push(FeatureMap { name: format!("layer{}", i + 1), map });
            let block = |(number, map)| FeatureMap { name: format!("layer{}_blk{number}", i + 1), map };
            maps.extend(blocks.into_iter().map(block));
        }
        maps
    }
}
