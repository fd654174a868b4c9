//! A finished graph becomes a file, or two.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Data, GraphError, Opset, Result, check};
use crate::proto::{
    DataLocation, Frame, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};

/// Name of the tool in the files it writes.
const PRODUCER: &str = "drifting";

/// The protobuf limit for one message.
const MAX_BYTES: u64 = (1 << 31) - 1;

/// Constants of fewer bytes stay in the model: shapes and axes, which are looked at before the model runs.
const EXTERNAL_LEAST: usize = 1024;

/// Where the numbers of a constant begin in the second file: at whole pages, so that they can be mapped.
pub(crate) const ALIGNMENT: u64 = 4096;

/// What is added to the name of a model for the name of the file with its weights.
pub const DATA_ENDING: &str = ".data";

/// A finished graph.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(super) proto: GraphProto,
    pub(super) initializers: Vec<(String, Data)>,
    pub(super) opset: Opset,
}

/// A graph that cannot be written, and why.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The graph is wrong, or too large for one file.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A file cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Graph {
    /// Bytes of all weights and constants.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.initializers.iter().map(|(_, data)| data.len() as u64).sum()
    }

    /// The bytes of an ONNX file with this graph, a text for people and metadata entries (key, value); checked, and
    /// equal for equal arguments.
    ///
    /// # Errors
    /// A model of 2 GiB and more, and what [`check`](super::check()) finds.
    pub fn encode(self, doc: String, metadata: Vec<(String, String)>) -> Result<Vec<u8>> {
        let plan = self.plan(doc, metadata, None)?;
        let mut bytes = Vec::with_capacity(usize::try_from(plan.frame.len()).unwrap_or_default());
        match plan.write(&self.initializers, &mut bytes, None) {
            Ok(()) => Ok(bytes),
            Err(WriteError::Graph(error)) => Err(error),
            Err(WriteError::Io(error)) => Err(GraphError::new("model", error.to_string())),
        }
    }

    /// Writes the same file to `path`, its weights one after another, and syncs it; with `external`, the weights go into
    /// a second file beside it, named like the model with the ending [`DATA_ENDING`]. Returns what was written.
    ///
    /// # Errors
    /// As [`Graph::encode`], and files that cannot be written, which then are incomplete.
    pub fn write(
        &self,
        doc: String,
        metadata: Vec<(String, String)>,
        path: &Path,
        external: bool,
    ) -> std::result::Result<Vec<PathBuf>, WriteError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let location = format!("{name}{DATA_ENDING}");
        let plan = self.plan(doc, metadata, external.then_some(location.as_str()))?;
        let mut model = BufWriter::new(File::create(path)?);
        let mut files = vec![path.to_owned()];
        if external {
            files.push(path.with_file_name(&location));
            let mut data = BufWriter::new(File::create(&files[1])?);
            plan.write(&self.initializers, &mut model, Some(&mut data))?;
            data.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        } else {
            plan.write(&self.initializers, &mut model, None)?;
        }
        model.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(files)
    }

    /// Decides where each constant goes, and checks the model.
    fn plan(&self, doc: String, metadata: Vec<(String, String)>, location: Option<&str>) -> Result<Plan> {
        let mut end = 0u64;
        let mut constants = Vec::new();
        let mut offsets = Vec::new();
        for (name, data) in &self.initializers {
            let length = data.len() as u64;
            let mut tensor = TensorProto {
                name: name.clone(),
                data_type: data.dtype.proto().into(),
                dims: data.dims.iter().map(|&size| size as i64).collect(),
                ..Default::default()
            };
            let outside = location.filter(|_| data.len() >= EXTERNAL_LEAST);
            if let Some(location) = outside {
                let offset = end.next_multiple_of(ALIGNMENT);
                end = offset + length;
                tensor.data_location = Some(DataLocation::External.into());
                tensor.external_data =
                    [("location", location.to_owned()), ("offset", offset.to_string()), ("length", length.to_string())]
                        .map(|(key, value)| StringStringEntryProto { key: key.into(), value })
                        .into();
                offsets.push(Some(offset));
                constants.push((tensor, None));
            } else {
                offsets.push(None);
                constants.push((tensor, Some(length)));
            }
        }
        let model = self.model(doc, metadata);
        let frame = Frame::new(model.clone(), &constants);
        if frame.len() > MAX_BYTES {
            let problem = format!(
                "takes {} bytes, an ONNX file holds at most {MAX_BYTES}; put its weights into a second file",
                frame.len()
            );
            return Err(GraphError::new("model", problem));
        }
        let mut whole = model;
        if let Some(graph) = &mut whole.graph {
            graph.initializer = constants.into_iter().map(|(tensor, _)| tensor).collect();
        }
        let lengths: Vec<u64> = self.initializers.iter().map(|(_, data)| data.len() as u64).collect();
        check::check_model(&whole, &lengths)?;
        Ok(Plan { frame, offsets })
    }

    fn model(&self, doc: String, metadata: Vec<(String, String)>) -> ModelProto {
        ModelProto {
            ir_version: self.opset.ir_version(),
            producer_name: PRODUCER.into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: doc,
            graph: Some(self.proto.clone()),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: self.opset.version() }],
            metadata_props: metadata.into_iter().map(|(key, value)| StringStringEntryProto { key, value }).collect(),
        }
    }
}

/// Where everything goes.
struct Plan {
    frame: Frame,
    /// Where the numbers of each constant begin in the second file; none for those that stay in the model.
    offsets: Vec<Option<u64>>,
}

impl Plan {
    fn write<W: Write>(
        &self,
        initializers: &[(String, Data)],
        model: &mut W,
        mut data: Option<&mut BufWriter<File>>,
    ) -> std::result::Result<(), WriteError> {
        let mut end = 0;
        self.frame.write(model, |place, model: &mut W| {
            let Some((name, numbers)) = initializers.get(place) else { return Ok(()) };
            let bytes = numbers.bytes().map_err(|error| GraphError::new(name, error.problem))?;
            match (self.offsets[place], &mut data) {
                (Some(offset), Some(data)) => {
                    data.write_all(&vec![0; (offset - end) as usize])?;
                    data.write_all(&bytes)?;
                    end = offset + bytes.len() as u64;
                }
                _ => model.write_all(&bytes)?,
            }
            Ok(())
        })
    }
}
