//! The protobuf messages of ONNX; the only module that knows where they come from.

use std::collections::BTreeMap;

use candle_onnx::onnx;
use prost::Message;

pub(crate) use onnx::tensor_proto::DataType;
pub(crate) use onnx::tensor_shape_proto::dimension::Value as DimValue;
pub(crate) use onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    ValueInfoProto,
};

use onnx::attribute_proto::AttributeType;
use onnx::tensor_shape_proto::Dimension;
use onnx::{TensorShapeProto, TypeProto, type_proto};

/// Reads a model.
///
/// # Errors
/// Bytes that are no ONNX model.
pub(crate) fn decode(bytes: &[u8]) -> Result<ModelProto, prost::DecodeError> {
    ModelProto::decode(bytes)
}

/// The bytes of a model; equal models have equal bytes.
pub(crate) fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// The length of [`encode`]'s result in bytes.
pub(crate) fn encoded_len(model: &ModelProto) -> usize {
    model.encoded_len()
}

/// Evaluates a model with candle-onnx.
///
/// # Errors
/// Inputs that do not fit, operators that candle-onnx does not know.
pub(crate) fn evaluate(
    model: &ModelProto,
    inputs: BTreeMap<&str, candle_core::Tensor>,
) -> candle_core::Result<BTreeMap<String, candle_core::Tensor>> {
    let inputs = inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    Ok(candle_onnx::simple_eval(model, inputs)?.into_iter().collect())
}

/// An integer attribute.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int.into(), i: value, ..Default::default() }
}

/// An attribute that is a list of integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Ints.into(), ints: values.into(), ..Default::default() }
}

/// The name, element type and shape of a value.
pub(crate) fn value_info(name: &str, dtype: DataType, dims: impl Iterator<Item = DimValue>) -> ValueInfoProto {
    let dim = dims.map(|value| Dimension { value: Some(value), ..Default::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: dtype.into(), shape: Some(TensorShapeProto { dim }) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}

/// Element type and dimensions of a value, if it is a tensor that says both.
pub(crate) fn tensor_type(info: &ValueInfoProto) -> Option<(DataType, Vec<&DimValue>)> {
    let Some(type_proto::Value::TensorType(tensor)) = &info.r#type.as_ref()?.value else { return None };
    let dims = tensor.shape.as_ref()?.dim.iter().map(|dim| dim.value.as_ref()).collect::<Option<_>>()?;
    Some((DataType::try_from(tensor.elem_type).ok()?, dims))
}
