//! Writes a model whose constants are larger than memory should hold twice.

use std::io::{self, Write};

use prost::Message;
use prost::encoding::encode_varint;

use super::messages::{GraphProto, ModelProto, TensorProto};

/// Tags of length-delimited fields: `ModelProto.graph`, `GraphProto.initializer`, `TensorProto.raw_data`.
const GRAPH: u8 = 7 << 3 | 2;
const INITIALIZER: u8 = 5 << 3 | 2;
const RAW_DATA: u8 = 9 << 3 | 2;

/// A model with gaps for the numbers of its constants: what prost would write, cut where they belong.
#[derive(Debug)]
pub(crate) struct Frame {
    /// What stands before the numbers of each constant.
    before: Vec<Vec<u8>>,
    after: Vec<u8>,
    length: u64,
}

impl Frame {
    /// A model with these constants; the number beside a constant is the length of its `raw_data`, none if it has none.
    pub(crate) fn new(model: ModelProto, constants: &[(TensorProto, Option<u64>)]) -> Self {
        let GraphProto { node, name, input, output, value_info, .. } = model.graph.unwrap_or_default();
        let front = GraphProto { node, name, ..Default::default() }.encode_to_vec();
        let back = GraphProto { input, output, value_info, ..Default::default() }.encode_to_vec();
        let heads: Vec<_> = constants.iter().map(|(tensor, raw)| (head(tensor, *raw), raw.unwrap_or(0))).collect();
        let inside: u64 = heads.iter().map(|(head, raw)| head.len() as u64 + raw).sum();

        let end =
            ModelProto { opset_import: model.opset_import, metadata_props: model.metadata_props, ..Default::default() };
        let start = ModelProto { graph: None, opset_import: Vec::new(), metadata_props: Vec::new(), ..model };
        let mut open = start.encode_to_vec();
        open.push(GRAPH);
        encode_varint((front.len() + back.len()) as u64 + inside, &mut open);
        open.extend(front);
        let after = [back, end.encode_to_vec()].concat();
        let length = (open.len() + after.len()) as u64 + inside;
        let mut before: Vec<_> = heads.into_iter().map(|(head, _)| head).collect();
        match before.first_mut() {
            Some(first) => *first = [open, std::mem::take(first)].concat(),
            None => before.push(open),
        }
        Self { before, after, length }
    }

    /// Bytes of the whole model.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Writes the model; `numbers` writes those of the constant with the given place into its gap.
    ///
    /// # Errors
    /// What `out` and `numbers` report.
    pub(crate) fn write<W: Write, E: From<io::Error>>(
        &self,
        out: &mut W,
        mut numbers: impl FnMut(usize, &mut W) -> Result<(), E>,
    ) -> Result<(), E> {
        for (place, before) in self.before.iter().enumerate() {
            out.write_all(before)?;
            numbers(place, out)?;
        }
        out.write_all(&self.after)?;
        Ok(())
    }
}

/// A constant up to its numbers.
fn head(tensor: &TensorProto, raw: Option<u64>) -> Vec<u8> {
    let mut inner = tensor.encode_to_vec();
    if let Some(raw) = raw {
        inner.push(RAW_DATA);
        encode_varint(raw, &mut inner);
    }
    let mut head = vec![INITIALIZER];
    encode_varint(inner.len() as u64 + raw.unwrap_or(0), &mut head);
    head.extend(inner);
    head
}

#[cfg(test)]
mod tests {
    use super::super::messages::OperatorSetIdProto;
    use super::super::{DataType, DimValue, value_info};
    use super::*;

    #[test]
    fn the_bytes_are_those_of_prost() {
        let tensor = |name: &str| TensorProto { name: name.into(), dims: vec![3], data_type: 2, ..Default::default() };
        let info = |name: &str| value_info(name, DataType::Float, [DimValue::DimValue(3)].into_iter());
        for count in [0, 1, 3] {
            let raw = vec![7u8; 200];
            let mut graph = GraphProto { name: "g".into(), input: vec![info("x")], ..Default::default() };
            let opset = OperatorSetIdProto { domain: Some(String::new()), version: 17 };
            let model = |graph| ModelProto {
                ir_version: 8,
                graph: Some(graph),
                opset_import: vec![opset.clone()],
                ..Default::default()
            };
            let constants: Vec<_> = (0..count).map(|i| (tensor(&format!("t{i}")), Some(raw.len() as u64))).collect();
            let frame = Frame::new(model(graph.clone()), &constants);
            let mut written = Vec::new();
            frame
                .write(
                    &mut written,
                    |place, out: &mut Vec<u8>| {
                        if place < count { out.write_all(&raw) } else { Ok(()) }
                    },
                )
                .unwrap();
            graph.initializer =
                constants.into_iter().map(|(tensor, _)| TensorProto { raw_data: raw.clone(), ..tensor }).collect();
            assert_eq!(written, model(graph).encode_to_vec(), "{count}");
            assert_eq!(frame.len(), written.len() as u64);
        }
    }
}
