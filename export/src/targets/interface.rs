//! The inputs and the output of an exported model, as other servers must be told them.

use drifting_spec::{Manifest, ManifestError, names};

use crate::Result;

/// A tensor of the model without its batch.
pub(super) struct Port {
    pub(super) name: &'static str,
    /// Element type in Triton's words.
    pub(super) kind: &'static str,
    /// Dimensions behind the batch; none for one number an image.
    pub(super) dims: Vec<usize>,
}

/// What the model of `manifest` reads, in the order of its file.
pub(super) fn inputs(manifest: &Manifest) -> Vec<Port> {
    let config = &manifest.generator;
    let image = config.image;
    let noise = Port { name: names::NOISE, kind: FLOAT, dims: vec![image.channels, image.height, image.width] };
    let style = Port { name: names::STYLE, kind: INTEGER, dims: vec![config.style_tokens] };
    let class = Port { name: names::CLASS, kind: INTEGER, dims: vec![] };
    let alpha = Port { name: names::ALPHA, kind: FLOAT, dims: vec![] };
    let style = (config.style_tokens > 0).then_some(style);
    std::iter::once(noise).chain(style).chain([class, alpha]).collect()
}

/// What it writes.
///
/// # Errors
/// A decoder that does not read the generator's latents.
pub(super) fn output(manifest: &Manifest) -> Result<Port> {
    let image = manifest.image().map_err(ManifestError::from)?;
    let kind = if manifest.pixels.is_float() { FLOAT } else { BYTE };
    Ok(Port { name: names::IMAGE, kind, dims: vec![image.channels, image.height, image.width] })
}

const FLOAT: &str = "TYPE_FP32";
const INTEGER: &str = "TYPE_INT64";
const BYTE: &str = "TYPE_UINT8";

impl Port {
    /// Its shape in a batch of `batch`, as ONNX Runtime's TensorRT options write it: `noise:8x4x32x32`.
    pub(super) fn shape(&self, batch: usize) -> String {
        let sizes: Vec<String> = std::iter::once(&batch).chain(&self.dims).map(usize::to_string).collect();
        format!("{}:{}", self.name, sizes.join("x"))
    }
}
