//! A finished graph becomes a file.

use super::{GraphError, IR_VERSION, OPSET, Result, check};
use crate::proto::{self, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};

/// Name of the tool in the files it writes.
const PRODUCER: &str = "drifting";

/// The protobuf limit for one message.
const MAX_BYTES: usize = (1 << 31) - 1;

/// A finished graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph(pub(super) GraphProto);

impl Graph {
    /// The bytes of an ONNX file with this graph, a text for people and metadata entries (key, value); checked, and
    /// equal for equal arguments.
    ///
    /// # Errors
    /// A model of 2 GiB and more, and what [`check`](super::check()) finds.
    pub fn encode(self, doc: String, metadata: Vec<(String, String)>) -> Result<Vec<u8>> {
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: PRODUCER.into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: doc,
            graph: Some(self.0),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: OPSET }],
            metadata_props: metadata.into_iter().map(|(key, value)| StringStringEntryProto { key, value }).collect(),
        };
        let bytes = proto::encoded_len(&model);
        if bytes > MAX_BYTES {
            let problem = format!("takes {bytes} bytes, an ONNX file holds at most {MAX_BYTES}");
            return Err(GraphError::new("model", problem));
        }
        check::check_model(&model)?;
        Ok(proto::encode(&model))
    }
}
