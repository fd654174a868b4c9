//! From the authors' masked autoencoder to our parameters (method section 20).

use std::collections::BTreeMap;

use candle_core::Tensor;
use drifting_spec::{ImageShape, MaeConfig};
use serde::Deserialize;
use serde_json::Value;

use super::flax::Tree;
use crate::Error;
use crate::mae::mae_parameter_shapes;

/// Rows and columns of the grid of every published encoder; the description does not say them.
const GRID: usize = 32;
/// The linear layer, whose kernel flax keeps as `[in, out]`.
const LINEAR: &str = "fc.weight";

/// The options of the official masked autoencoder. Dropout and `use_bf16` are part of its training, not of the network.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelConfig {
    num_classes: usize,
    in_channels: usize,
    base_channels: usize,
    patch_size: usize,
    layers: [usize; 4],
    #[serde(default = "one")]
    input_patch_size: usize,
    #[serde(rename = "dropout_prob")]
    _dropout_prob: Option<f64>,
    #[serde(rename = "use_bf16")]
    _use_bf16: Option<bool>,
}

fn one() -> usize {
    1
}

/// Reads and checks the `model_config` of a description; errors name the key.
pub(super) fn config(model: Value) -> Result<MaeConfig, String> {
    let model: ModelConfig = serde_json::from_value(model).map_err(|error| error.to_string())?;
    let side = GRID.saturating_mul(model.input_patch_size);
    let image = ImageShape { channels: model.in_channels, height: side, width: side };
    let config = MaeConfig::new(image, model.input_patch_size, model.base_channels, model.num_classes);
    let config = MaeConfig { blocks: model.layers, mask_block: model.patch_size, ..config };
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}

/// The parameters of `config` from `tree`, all of it.
pub(super) fn tensors_of(mut tree: Tree<'_>, config: &MaeConfig) -> Result<BTreeMap<String, Tensor>, String> {
    let tensors = tensors(config, |path, shape| tree.take(path, shape))?;
    match tree.rest() {
        Some(path) => Err(format!("tensor {path} belongs to no parameter of this network")),
        None => Ok(tensors),
    }
}

/// The parameters of `config`, each from what `take` hands out for its path and shape in the authors' tree.
fn tensors(
    config: &MaeConfig,
    mut take: impl FnMut(&str, &[usize]) -> Result<Tensor, String>,
) -> Result<BTreeMap<String, Tensor>, String> {
    let mut tensors = BTreeMap::new();
    for (name, shape) in mae_parameter_shapes(config).map_err(|error| error.to_string())? {
        let path = path(&name, shape.len());
        let tensor = match (name.as_str(), shape.as_slice()) {
            (LINEAR, &[outputs, inputs]) => {
                let kernel = take(&path, &[inputs, outputs])?;
                let weight = kernel.t().and_then(|weight| weight.contiguous());
                weight.map_err(|error| format!("tensor {path}: {error}"))?
            }
            (_, shape) => take(&path, shape)?,
        };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// The authors' path of one of our parameters.
fn path(name: &str, rank: usize) -> String {
    let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let leaf = match (leaf, rank) {
        ("weight", 1) => "scale",
        ("weight", _) => "kernel",
        (leaf, _) => leaf,
    };
    let module =
        module.replace("stages.", "stages_").replace("layers.", "layers_").replace("concat_norm", "concat_norm_fn");
    format!("{}/{leaf}", module.replace('.', "/"))
}

/// Renames a masked autoencoder's flax tree (paths joined by `/`, kernels `[rows, columns, in, out]` and `[in, out]`) to the
/// parameters of [`Mae`](crate::Mae).
///
/// # Errors
/// Tensors that are missing, left over or of another shape, by their path.
pub fn mae_from_tree(
    config: &MaeConfig,
    mut tree: BTreeMap<String, Tensor>,
) -> crate::Result<BTreeMap<String, Tensor>> {
    let found = tensors(config, |path, shape| {
        let tensor = tree.remove(path).ok_or_else(|| format!("tensor {path} is missing (expected shape {shape:?})"))?;
        match tensor.dims() == shape {
            true => Ok(tensor),
            false => Err(format!("tensor {path} has shape {:?}, expected {shape:?}", tensor.dims())),
        }
    });
    match (found, tree.into_keys().next()) {
        (Err(problem), _) => Err(Error::Tree { problem }),
        (Ok(_), Some(name)) => Err(Error::Unknown { name }),
        (Ok(tensors), None) => Ok(tensors),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn published() -> Value {
        json!({
            "num_classes": 1000, "in_channels": 4, "base_channels": 256, "patch_size": 2, "dropout_prob": 0.0,
            "layers": [3, 4, 6, 3], "use_bf16": true, "input_patch_size": 1,
        })
    }

    #[test]
    fn the_published_size_is_recognised() {
        assert_eq!(config(published()).ok(), MaeConfig::published("mae_latent_256"));
        let mut pixel = published();
        pixel["input_patch_size"] = json!(8);
        pixel["in_channels"] = json!(3);
        pixel["base_channels"] = json!(640);
        assert_eq!(config(pixel).ok(), MaeConfig::published("mae_pixel_640"));
    }

    #[test]
    fn what_we_cannot_represent_is_named() {
        for (key, value) in
            [("block_type", json!("bottleneck")), ("layers", json!([3, 0, 6, 3])), ("base_channels", json!(0))]
        {
            let mut model = published();
            model[key] = value;
            let error = config(model).unwrap_err();
            assert!(error.contains(if key == "layers" { "blocks" } else { key }), "{error}");
        }
    }

    #[test]
    fn paths_are_the_authors() {
        for (name, rank, expected) in [
            ("encoder.conv1.weight", 4, "encoder/conv1/kernel"),
            ("encoder.gn1.weight", 1, "encoder/gn1/scale"),
            ("encoder.stages.1.layers.0.proj_gn.bias", 1, "encoder/stages_1/layers_0/proj_gn/bias"),
            ("decoder.up43.concat_norm.weight", 1, "decoder/up43/concat_norm_fn/scale"),
            ("decoder.head.weight", 4, "decoder/head/kernel"),
            ("fc.weight", 2, "fc/kernel"),
        ] {
            assert_eq!(path(name, rank), expected);
        }
    }
}
