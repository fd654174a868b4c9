//! A graph becomes a model: header, manifest, bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use drifting_spec::{MANIFEST_KEY, Manifest, NETWORK_KEY, NetworkConfig, NetworkManifest, PROFILE_KEY};

use crate::graph::{Data, Graph, GraphError, Parameters, WriteError};
use crate::verify::ModelFile;
use crate::{Error, ExportSettings, ExternalData, Result, lower};

/// Weights of more bytes go into a file of their own: 1.5 GiB, well below what one protobuf message holds.
const EXTERNAL_ABOVE: u64 = 3 << 29;

/// A graph with what its file says beside it.
struct Document {
    graph: Graph,
    /// A text for people.
    doc: String,
    metadata: Vec<(String, String)>,
}

/// The ONNX file of the generator that `manifest` describes, and of its decoder, with these parameters (f32, named as
/// [`ImageModel::tensors`](crate::ImageModel::tensors) names them).
///
/// The manifest goes into the file's metadata. Equal arguments give equal bytes. This is the whole file in memory, weights
/// included wherever `settings` want them; [`export`](crate::export()) writes them one after another.
///
/// # Errors
/// Settings that cannot be exported; a manifest that contradicts itself; a parameter that is missing, unknown, of
/// another shape, not f32 or not finite; a model of 2 GiB and more.
pub fn model(manifest: &Manifest, weights: &BTreeMap<String, Tensor>, settings: &ExportSettings) -> Result<Vec<u8>> {
    Document::of_images(manifest, weights, settings)?.encode()
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
    Document::of_images(manifest, weights, settings)?.write(path, settings)
}

/// The ONNX file of an encoder, or of a decoder alone, with these parameters (f32, named as in the network).
///
/// # Errors
/// As [`model`].
pub fn network_model(
    manifest: &NetworkManifest,
    weights: &BTreeMap<String, Tensor>,
    settings: &ExportSettings,
) -> Result<Vec<u8>> {
    Document::of_network(manifest, weights, settings)?.encode()
}

/// Writes the same model to `path`, as [`write_model`] does.
///
/// # Errors
/// As [`write_model`].
pub fn write_network(
    path: &Path,
    manifest: &NetworkManifest,
    weights: &BTreeMap<String, Tensor>,
    settings: &ExportSettings,
) -> Result<Vec<PathBuf>> {
    Document::of_network(manifest, weights, settings)?.write(path, settings)
}

impl Document {
    fn of_images(manifest: &Manifest, weights: &BTreeMap<String, Tensor>, settings: &ExportSettings) -> Result<Self> {
        settings.validate()?;
        manifest.validate()?;
        let graph = lower::generator(manifest, parameters(weights, settings)?)?;
        let doc = format!(
            "One-step image generator {:?}, optimizer step {}. Reads noise, style indices, class and alpha; alpha is \
             trained for {} to {}. Its whole description is JSON under {MANIFEST_KEY} in the metadata.",
            manifest.name, manifest.provenance.step, manifest.alpha.min, manifest.alpha.max
        );
        Ok(Self { graph, doc, metadata: metadata(MANIFEST_KEY, manifest.to_json()?, settings) })
    }

    fn of_network(
        manifest: &NetworkManifest,
        weights: &BTreeMap<String, Tensor>,
        settings: &ExportSettings,
    ) -> Result<Self> {
        settings.validate()?;
        manifest.network.validate().map_err(drifting_spec::ManifestError::from)?;
        let parameters = parameters(weights, settings)?;
        let (graph, what) = match &manifest.network {
            NetworkConfig::Decoder { decoder, latent, pixels } => {
                (lower::decoder(decoder, *latent, *pixels, parameters)?, "Decoder of latents")
            }
            NetworkConfig::Encoder(config) => (lower::encoder(config, parameters)?, "Encoder of a masked autoencoder"),
        };
        let name = &manifest.name;
        let doc = format!("{what} {name:?}. Its whole description is JSON under {NETWORK_KEY} in the metadata.");
        Ok(Self { graph, doc, metadata: metadata(NETWORK_KEY, manifest.to_json()?, settings) })
    }

    fn encode(self) -> Result<Vec<u8>> {
        Ok(self.graph.encode(self.doc, self.metadata)?)
    }

    fn write(self, path: &Path, settings: &ExportSettings) -> Result<Vec<PathBuf>> {
        let external = match settings.external_data {
            ExternalData::Auto => self.graph.weight_bytes() > EXTERNAL_ABOVE,
            ExternalData::Always => true,
            ExternalData::Never => false,
        };
        self.graph.write(self.doc, self.metadata, path, external).map_err(|error| match error {
            WriteError::Graph(error) => error.into(),
            WriteError::Io(source) => Error::Models(drifting_models::Error::Io { path: path.to_owned(), source }),
        })
    }
}

fn metadata(key: &str, manifest: String, settings: &ExportSettings) -> Vec<(String, String)> {
    vec![(key.to_owned(), manifest), (PROFILE_KEY.to_owned(), settings.profile.to_string())]
}

fn parameters(weights: &BTreeMap<String, Tensor>, settings: &ExportSettings) -> Result<Parameters> {
    let weights = weights.iter().map(|(name, tensor)| Ok((name.clone(), data(name, tensor)?)));
    Ok(Parameters::new(weights.collect::<Result<_>>()?, settings))
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

/// The manifest of an exported generator.
///
/// # Errors
/// Bytes that are no ONNX model, and one without a manifest that this version reads.
pub fn manifest(model: &[u8]) -> Result<Manifest> {
    Ok(Manifest::parse(ModelFile::from_bytes(model)?.entry(MANIFEST_KEY)?)?)
}

/// The manifest of an exported encoder, or of a decoder alone.
///
/// # Errors
/// As [`manifest`].
pub fn network_manifest(model: &[u8]) -> Result<NetworkManifest> {
    Ok(NetworkManifest::parse(ModelFile::from_bytes(model)?.entry(NETWORK_KEY)?)?)
}
