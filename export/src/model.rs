//! A graph becomes a model: header, manifest, bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use drifting_spec::{MANIFEST_KEY, Manifest, PROFILE_KEY};

use crate::graph::{Data, Graph, GraphError, Parameters, WriteError};
use crate::verify::ModelFile;
use crate::{Error, ExportSettings, ExternalData, Result, lower};

/// Weights of more bytes go into a file of their own: 1.5 GiB, well below what one protobuf message holds.
const EXTERNAL_ABOVE: u64 = 3 << 29;

/// The ONNX file of the generator that `manifest` describes, with these parameters (f32, named as in the network).
///
/// The manifest goes into the file's metadata. Equal arguments give equal bytes. This is the whole file in memory, weights
/// included wherever `settings` want them; [`export`](crate::export()) writes them one after another.
///
/// # Errors
/// Settings that cannot be exported; a manifest that contradicts itself; a parameter that is missing, unknown, of
/// another shape, not f32 or not finite; a model of 2 GiB and more.
pub fn model(manifest: &Manifest, weights: &BTreeMap<String, Tensor>, settings: &ExportSettings) -> Result<Vec<u8>> {
    let (doc, metadata) = header(manifest, settings)?;
    Ok(graph(manifest, weights, settings)?.encode(doc, metadata)?)
}

/// Writes the same model to `path`, and its weights to a file beside it if `settings` say so. Returns the files.
///
/// # Errors
/// As [`model`], and files that cannot be written.
pub fn write_model(
    path: &Path,
    manifest: &Manifest,
    weights: &BTreeMap<String, Tensor>,
    settings: &ExportSettings,
) -> Result<Vec<PathBuf>> {
    let (doc, metadata) = header(manifest, settings)?;
    let graph = graph(manifest, weights, settings)?;
    let external = match settings.external_data {
        ExternalData::Auto => graph.weight_bytes() > EXTERNAL_ABOVE,
        ExternalData::Always => true,
        ExternalData::Never => false,
    };
    graph.write(doc, metadata, path, external).map_err(|error| match error {
        WriteError::Graph(error) => error.into(),
        WriteError::Io(source) => Error::Models(drifting_models::Error::Io { path: path.to_owned(), source }),
    })
}

fn graph(manifest: &Manifest, weights: &BTreeMap<String, Tensor>, settings: &ExportSettings) -> Result<Graph> {
    settings.validate()?;
    manifest.validate()?;
    let weights = weights.iter().map(|(name, tensor)| Ok((name.clone(), data(name, tensor)?)));
    let parameters = Parameters::new(weights.collect::<Result<_>>()?, settings);
    Ok(lower::generator(&manifest.generator, parameters)?)
}

/// A text for people, and the entries of the metadata.
fn header(manifest: &Manifest, settings: &ExportSettings) -> Result<(String, Vec<(String, String)>)> {
    let doc = format!(
        "One-step image generator {:?}, optimizer step {}. Reads noise, style indices, class and alpha; alpha is \
         trained for {} to {}. Its whole description is JSON under {MANIFEST_KEY} in the metadata.",
        manifest.name, manifest.provenance.step, manifest.alpha.min, manifest.alpha.max
    );
    let entry = |key: &str, value: String| (key.to_owned(), value);
    Ok((doc, vec![entry(MANIFEST_KEY, manifest.to_json()?), entry(PROFILE_KEY, settings.profile.to_string())]))
}

/// A parameter's numbers.
pub(crate) fn data(name: &str, tensor: &Tensor) -> Result<Data> {
    if tensor.dtype() != DType::F32 {
        let problem = format!("this weight is {:?}, only F32 can be exported", tensor.dtype());
        return Err(GraphError::new(name, problem).into());
    }
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(drifting_models::Error::NotFinite { name: name.into() }.into());
    }
    Ok(Data::weight(tensor.detach()))
}

/// The manifest of an exported model.
///
/// # Errors
/// Bytes that are no ONNX model, and one without a manifest that this version reads.
pub fn manifest(model: &[u8]) -> Result<Manifest> {
    Ok(ModelFile::from_bytes(model)?.manifest().clone())
}
