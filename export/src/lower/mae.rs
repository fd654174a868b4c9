//! The encoder of a masked autoencoder (paper appendix A.3): images become feature maps.

use drifting_spec::{ImageShape, MaeBlock, MaeConfig, names};

use super::layers::group_norm;
use crate::graph::{Builder, DType, Graph, Layout, Parameters, Result, Scope, Shape, Value};

/// Added to the variance of every norm.
const EPSILON: f32 = 1e-6;

/// Blocks from one map inside a stage to the next (paper appendix A.5).
const TAP_EVERY: usize = 2;

/// The graph of an encoder with the given parameters (`encoder.*`); its outputs are the maps of `Mae::encode`, each
/// `[batch, height, width, channels]` under its own name.
///
/// # Errors
/// A parameter that is missing, unknown or of another shape than `config` says.
pub(crate) fn encoder(config: &MaeConfig, parameters: Parameters) -> Result<Graph> {
    let builder = Builder::new("encoder", names::BATCH, parameters);
    let ImageShape { channels, height, width } = config.image;
    let image = builder.input(names::IMAGE, DType::F32, Shape::batched(&[channels, height, width]));
    let g = &builder.root().part("encoder");
    let mut maps = Maps::default();
    let patches = patches(g, &image, config)?;
    maps.add(g, "x".to_owned(), &patches)?;

    let mut x = g.relu(&conv_norm(g, ["conv1", "gn1"], &patches, [3, 1, config.base_channels], config)?);
    if config.stem_tap {
        maps.add(g, "conv1".to_owned(), &x)?;
    }
    for stage in 0..config.blocks.len() {
        x = self::stage(g, &x, stage, config, &mut maps)?;
    }
    let outputs: Vec<_> = maps.0.iter().map(|(name, map)| (name.as_str(), map)).collect();
    builder.finish(&outputs)
}

/// The outputs so far.
#[derive(Default)]
struct Maps(Vec<(String, Value)>);

impl Maps {
    /// Adds a map `[batch, channels, height, width]`, channels last.
    fn add(&mut self, g: &Scope, name: String, map: &Value) -> Result<()> {
        let last = g.part("maps").part(&name).transpose(map, &[0, 2, 3, 1])?;
        self.0.push((name, last));
        Ok(())
    }
}

/// Patches `[batch, p p c, rows, columns]`, the numbers of a patch in the order row, column, channel.
fn patches(g: &Scope, image: &Value, config: &MaeConfig) -> Result<Value> {
    let (p, (rows, columns), channels) = (config.input_patch, config.grid(), config.image.channels);
    if p == 1 {
        return Ok(image.clone());
    }
    let cut = g.reshape(image, &[channels, rows, p, columns, p])?;
    g.reshape(&g.transpose(&cut, &[0, 3, 5, 1, 2, 4])?, &[config.patch_len(), rows, columns])
}

/// Residual blocks, the first of stride 2 but in the first stage, and a norm.
fn stage(g: &Scope, x: &Value, stage: usize, config: &MaeConfig, maps: &mut Maps) -> Result<Value> {
    let (width, blocks) = (config.channels(stage), config.blocks[stage]);
    let mut tapped = Vec::new();
    let mut x = x.clone();
    for i in 0..blocks {
        let stride = if stage > 0 && i == 0 { 2 } else { 1 };
        let part = g.part(&format!("stages.{stage}.layers.{i}"));
        x = block(&part, &x, width, stride, config)?;
        let number = i + 1;
        if number % TAP_EVERY == 0 && (config.stage_norm || number < blocks) {
            tapped.push((number, x.clone()));
        }
    }
    let name = format!("layer{}", stage + 1);
    if config.stage_norm {
        x = group_norm(&g.part(&format!("{name}_norm")), &x, config.groups(width), EPSILON)?;
    }
    maps.add(g, name.clone(), &x)?;
    for (number, map) in tapped {
        maps.add(g, format!("{name}_blk{number}"), &map)?;
    }
    Ok(x)
}

/// ReLU(skip(x) + body(x)); the skip is a convolution and a norm where the shape changes.
fn block(g: &Scope, x: &Value, out: usize, stride: usize, config: &MaeConfig) -> Result<Value> {
    let skip = match stride == 1 && x.shape().size(1) == Some(out) {
        true => x.clone(),
        false => conv_norm(g, ["proj_conv", "proj_gn"], x, [1, stride, out], config)?,
    };
    let layer = |names: [&str; 2], x: &Value, shape: [usize; 3]| conv_norm(g, names, x, shape, config);
    let (first, second, third) = (["conv1", "gn1"], ["conv2", "gn2"], ["conv3", "gn3"]);
    let y = match config.block {
        MaeBlock::Basic => layer(second, &g.relu(&layer(first, x, [3, stride, out])?), [3, 1, out])?,
        MaeBlock::Bottleneck => {
            let inner = g.relu(&layer(first, x, [1, 1, out / 4])?);
            let inner = g.relu(&layer(second, &inner, [3, stride, out / 4])?);
            layer(third, &inner, [1, 1, out])?
        }
    };
    Ok(g.relu(&g.add(&skip, &y)?))
}

/// A convolution without bias, of a side and a stride to so many channels, and its norm.
fn conv_norm(
    g: &Scope,
    [conv, norm]: [&str; 2],
    x: &Value,
    [side, stride, out]: [usize; 3],
    config: &MaeConfig,
) -> Result<Value> {
    let conv = g.part(conv);
    let inner = x.shape().size(1).unwrap_or_default();
    let dims = [side, side, inner, out];
    let weight = conv.parameter_as("weight", &dims, Layout::ChannelsFirst, g.convolution_type())?;
    let y = g.full(&conv.conv(&g.cast(x, g.convolution_type()), &weight, None, stride)?);
    group_norm(&g.part(norm), &y, config.groups(out), EPSILON)
}
