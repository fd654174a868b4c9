//! The protobuf messages of ONNX, and candle-onnx behind them.

mod messages;
mod read;
mod write;

use std::collections::BTreeMap;

use candle_core::Tensor;
use prost::Message;

use crate::graph::GraphError;

pub(crate) use messages::{
    AttributeProto, DataLocation, DataType, DimValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, ValueInfoProto,
};
pub(crate) use read::{Place, Skeleton, read};
pub(crate) use write::Frame;

use messages::{AttributeType, Dimension, TensorShapeProto, TensorType, TypeProto};

/// A model in candle-onnx.
#[derive(Debug)]
pub(crate) struct Evaluator(candle_onnx::onnx::ModelProto);

impl Evaluator {
    /// Takes over a model with all its numbers.
    ///
    /// # Errors
    /// A model that candle-onnx cannot read.
    pub(crate) fn new(model: &ModelProto) -> Result<Self, GraphError> {
        let theirs = candle_onnx::onnx::ModelProto::decode(model.encode_to_vec().as_slice());
        theirs.map(Self).map_err(|error| GraphError::new("model", error.to_string()))
    }

    /// The outputs by name.
    ///
    /// # Errors
    /// Inputs that do not fit, operators that candle-onnx does not know.
    pub(crate) fn run(&self, inputs: BTreeMap<&str, Tensor>) -> candle_core::Result<BTreeMap<String, Tensor>> {
        let inputs = inputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        Ok(candle_onnx::simple_eval(&self.0, inputs)?.into_iter().collect())
    }
}

/// An integer attribute.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int.into(), i: Some(value), ..Default::default() }
}

/// A float attribute.
pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float.into(), f: Some(value), ..Default::default() }
}

/// An attribute that is a word.
pub(crate) fn text(name: &str, value: &str) -> AttributeProto {
    let s = Some(value.as_bytes().to_vec());
    AttributeProto { name: name.into(), r#type: AttributeType::String.into(), s, ..Default::default() }
}

/// An attribute that is a list of integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Ints.into(), ints: values.into(), ..Default::default() }
}

/// The name, element type and shape of a value.
pub(crate) fn value_info(name: &str, dtype: DataType, dims: impl Iterator<Item = DimValue>) -> ValueInfoProto {
    let dim = dims.map(|value| Dimension { value: Some(value) }).collect();
    let tensor_type = TensorType { elem_type: dtype.into(), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// Element type and dimensions of a value, if it is a tensor that says both.
pub(crate) fn tensor_type(info: &ValueInfoProto) -> Option<(DataType, Vec<&DimValue>)> {
    let tensor = info.r#type.as_ref()?.tensor_type.as_ref()?;
    let dims = tensor.shape.as_ref()?.dim.iter().map(|dim| dim.value.as_ref()).collect::<Option<_>>()?;
    Some((DataType::try_from(tensor.elem_type).ok()?, dims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_integers_are_not_packed() {
        // Each number with a tag of its own: field 8, wire type 0.
        assert_eq!(ints("a", &[1, 2]).encode_to_vec(), [0x0a, 1, b'a', 0x40, 1, 0x40, 2, 0xa0, 1, 7]);
        let tensor = TensorProto { dims: vec![3, 4], ..Default::default() };
        assert_eq!(tensor.encode_to_vec(), [0x08, 3, 0x08, 4]);
    }

    #[test]
    fn an_attribute_of_zero_is_written() {
        assert_eq!(int("a", 0).encode_to_vec(), [0x0a, 1, b'a', 0x18, 0, 0xa0, 1, 2]);
        assert_eq!(text("a", "b").encode_to_vec(), [0x0a, 1, b'a', 0x22, 1, b'b', 0xa0, 1, 3]);
    }

    #[test]
    fn candle_onnx_reads_the_same_messages() {
        let shape = [DimValue::DimParam("batch".into()), DimValue::DimValue(3)];
        let info = value_info("x", DataType::Int64, shape.into_iter());
        let theirs = candle_onnx::onnx::ValueInfoProto::decode(info.encode_to_vec().as_slice()).unwrap();
        assert_eq!(ValueInfoProto::decode(theirs.encode_to_vec().as_slice()).unwrap(), info);
    }
}
