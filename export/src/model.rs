//! A graph becomes a model: header, manifest, bytes.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use drifting_spec::{MANIFEST_KEY, Manifest};

use crate::graph::{self, Data, GraphError, IR_VERSION, OPSET};
use crate::proto::{self, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::{Error, Result, lower};

/// Name of the tool in the files it writes.
const PRODUCER: &str = "drifting";

/// The protobuf limit for one message.
const MAX_BYTES: usize = (1 << 31) - 1;

/// The ONNX file of the generator that `manifest` describes, with these parameters (f32, named as in the network).
///
/// The manifest goes into the file's metadata. Equal arguments give equal bytes. The numbers are copied about three
/// times on the way, so a model of 1 GiB needs some 3 GiB of memory.
///
/// # Errors
/// A manifest that contradicts itself; a parameter that is missing, unknown, of another shape, not f32 or not finite;
/// a model of 2 GiB and more.
pub fn model(manifest: &Manifest, weights: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    manifest.validate()?;
    let parameters = weights.iter().map(|(name, tensor)| Ok((name.clone(), data(name, tensor)?)));
    let graph = lower::generator(&manifest.generator, parameters.collect::<Result<_>>()?)?;
    let model = wrap(graph, manifest)?;
    let bytes = proto::encoded_len(&model);
    if bytes > MAX_BYTES {
        return Err(Error::TooLarge { bytes });
    }
    let bytes = proto::encode(&model);
    graph::check(&bytes)?;
    Ok(bytes)
}

fn wrap(graph: GraphProto, manifest: &Manifest) -> Result<ModelProto> {
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    let doc_string = format!(
        "One-step image generator {:?}, optimizer step {}. Reads noise, style indices, class and alpha; alpha is trained \
         for {} to {}. Its whole description is JSON under {MANIFEST_KEY} in the metadata.",
        manifest.name, manifest.provenance.step, manifest.alpha.min, manifest.alpha.max
    );
    Ok(ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { version: OPSET, ..Default::default() }],
        producer_name: PRODUCER.into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string,
        graph: Some(graph),
        metadata_props: vec![entry(MANIFEST_KEY, manifest.to_json()?)],
        ..Default::default()
    })
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

/// The manifest of an exported model.
///
/// # Errors
/// Bytes that are no ONNX model, and one without a manifest that this version reads.
pub fn manifest(model: &[u8]) -> Result<Manifest> {
    let model = proto::decode(model).map_err(|error| GraphError::new("model", error.to_string()))?;
    let entry = model.metadata_props.iter().find(|entry| entry.key == MANIFEST_KEY);
    let entry = entry.ok_or_else(|| GraphError::new("model", format!("its metadata lack {MANIFEST_KEY}")))?;
    Ok(Manifest::parse(&entry.value)?)
}
