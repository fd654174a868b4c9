//! A graph becomes a model: header, manifest, bytes.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use drifting_spec::{MANIFEST_KEY, Manifest, NETWORK_KEY, NetworkConfig, NetworkManifest};

use crate::graph::{Data, GraphError};
use crate::{ExportSettings, Result, lower, proto};

/// The ONNX file of the generator that `manifest` describes, and of its decoder, with these parameters (f32, named as
/// [`ImageModel::tensors`](crate::ImageModel::tensors) names them).
///
/// The manifest goes into the file's metadata. Equal arguments give equal bytes. The numbers are copied about three
/// times on the way, so a model of 1 GiB needs some 3 GiB of memory.
///
/// # Errors
/// Settings that cannot be exported; a manifest that contradicts itself; a parameter that is missing, unknown, of another shape, not f32 or not finite;
/// a model of 2 GiB and more.
pub fn model(manifest: &Manifest, weights: &BTreeMap<String, Tensor>, settings: &ExportSettings) -> Result<Vec<u8>> {
    settings.validate()?;
    manifest.validate()?;
    let parameters = weights.iter().map(|(name, tensor)| Ok((name.clone(), data(name, tensor)?)));
    let graph = lower::generator(manifest, parameters.collect::<Result<_>>()?)?;
    let doc = format!(
        "One-step image generator {:?}, optimizer step {}. Reads noise, style indices, class and alpha; alpha is \
         trained for {} to {}. Its whole description is JSON under {MANIFEST_KEY} in the metadata.",
        manifest.name, manifest.provenance.step, manifest.alpha.min, manifest.alpha.max
    );
    Ok(graph.encode(doc, vec![(MANIFEST_KEY.to_owned(), manifest.to_json()?)])?)
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
    settings.validate()?;
    manifest.network.validate().map_err(drifting_spec::ManifestError::from)?;
    let parameters = weights.iter().map(|(name, tensor)| Ok((name.clone(), data(name, tensor)?)));
    let parameters = parameters.collect::<Result<_>>()?;
    let (graph, what) = match &manifest.network {
        NetworkConfig::Decoder { decoder, latent, pixels } => {
            (lower::decoder(decoder, *latent, *pixels, parameters)?, "Decoder of latents")
        }
        NetworkConfig::Encoder(config) => (lower::encoder(config, parameters)?, "Encoder of a masked autoencoder"),
    };
    let doc = format!("{what} {:?}. Its whole description is JSON under {NETWORK_KEY} in the metadata.", manifest.name);
    Ok(graph.encode(doc, vec![(NETWORK_KEY.to_owned(), manifest.to_json()?)])?)
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
    let mismatch = || GraphError::new(name, "has another number of values than its shape says");
    Ok(Data::floats(tensor.dims(), &values).ok_or_else(mismatch)?)
}

/// The manifest of an exported generator.
///
/// # Errors
/// Bytes that are no ONNX model, and one without a manifest that this version reads.
pub fn manifest(model: &[u8]) -> Result<Manifest> {
    Ok(Manifest::parse(&entry(model, MANIFEST_KEY)?)?)
}

/// The manifest of an exported encoder, or of a decoder alone.
///
/// # Errors
/// As [`manifest`].
pub fn network_manifest(model: &[u8]) -> Result<NetworkManifest> {
    Ok(NetworkManifest::parse(&entry(model, NETWORK_KEY)?)?)
}

/// A text entry of a model's metadata.
fn entry(model: &[u8], key: &str) -> Result<String> {
    let model = proto::decode(model).map_err(|error| GraphError::new("model", error.to_string()))?;
    let entry = model.metadata_props.into_iter().find(|entry| entry.key == key);
    Ok(entry.ok_or_else(|| GraphError::new("model", format!("its metadata lack {key}")))?.value)
}
