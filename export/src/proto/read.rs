//! Reads a model without the numbers of its constants, however large the file is.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use prost::Message;
use prost::encoding::encode_varint;

use super::messages::{DataLocation, GraphProto, ModelProto, TensorProto};

/// Fields of `ModelProto`, `GraphProto` and `TensorProto` that are walked into.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const RAW_DATA: u64 = 9;

/// A model without the numbers of its constants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Skeleton {
    /// The model; `raw_data` of the graph's initializers is empty.
    pub(crate) model: ModelProto,
    /// Where the numbers of each initializer are, in their order.
    pub(crate) places: Vec<Place>,
}

/// Where the numbers of a constant are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name of another file; none for the model itself.
    pub(crate) file: Option<String>,
    /// The first byte in the file.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u64,
}

/// A file that is no model, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A message that is no part of a model.
    #[error(transparent)]
    Decode(#[from] prost::DecodeError),
    /// Not protobuf, or cut short.
    #[error("not a complete ONNX file: no field fits at byte {0}")]
    Malformed(u64),
}

/// Reads a model from its first byte on.
///
/// # Errors
/// Bytes that are no complete ONNX model. No more memory is taken than the file holds.
pub(crate) fn read(source: &mut (impl BufRead + Seek)) -> Result<Skeleton, ReadError> {
    let end = source.seek(SeekFrom::End(0))?;
    source.rewind()?;
    let mut walk = Walk { source, at: 0, end };
    let (mut rest, mut graph) = (Vec::new(), None);
    while let Some((tag, content)) = walk.field()? {
        match content {
            Content::Inner(length) if tag >> 3 == GRAPH => graph = Some(walk.inner(length, read_graph)?),
            content => walk.keep(tag, content, &mut rest)?,
        }
    }
    let mut model = ModelProto::decode(rest.as_slice())?;
    let (graph, places) = graph.unzip();
    model.graph = graph;
    Ok(Skeleton { model, places: places.unwrap_or_default() })
}

fn read_graph<R: BufRead + Seek>(walk: &mut Walk<R>) -> Result<(GraphProto, Vec<Place>), ReadError> {
    let (mut rest, mut initializers, mut places) = (Vec::new(), Vec::new(), Vec::new());
    while let Some((tag, content)) = walk.field()? {
        match content {
            Content::Inner(length) if tag >> 3 == INITIALIZER => {
                let (tensor, place) = walk.inner(length, read_tensor)?;
                initializers.push(tensor);
                places.push(place);
            }
            content => walk.keep(tag, content, &mut rest)?,
        }
    }
    let mut graph = GraphProto::decode(rest.as_slice())?;
    graph.initializer = initializers;
    Ok((graph, places))
}

fn read_tensor<R: BufRead + Seek>(walk: &mut Walk<R>) -> Result<(TensorProto, Place), ReadError> {
    let (mut rest, mut place) = (Vec::new(), Place { file: None, offset: walk.at, length: 0 });
    while let Some((tag, content)) = walk.field()? {
        match content {
            Content::Inner(length) if tag >> 3 == RAW_DATA => {
                place = Place { file: None, offset: walk.at, length };
                walk.skip(length)?;
            }
            content => walk.keep(tag, content, &mut rest)?,
        }
    }
    let tensor = TensorProto::decode(rest.as_slice())?;
    if tensor.data_location == Some(DataLocation::External.into()) {
        place = external(&tensor).ok_or(ReadError::Malformed(walk.at))?;
    }
    Ok((tensor, place))
}

/// What a tensor says about the file that holds its numbers; all three entries must be there.
fn external(tensor: &TensorProto) -> Option<Place> {
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let number = |key: &str| entry(key)?.parse().ok();
    Some(Place { file: Some(entry("location")?.clone()), offset: number("offset")?, length: number("length")? })
}

/// What follows a tag.
enum Content {
    /// The bytes of a number.
    Number(Vec<u8>),
    /// So many bytes, not read yet.
    Inner(u64),
}

/// A walk over the fields of one message.
struct Walk<'a, R> {
    source: &'a mut R,
    at: u64,
    end: u64,
}

impl<R: BufRead + Seek> Walk<'_, R> {
    /// The next tag and what follows it; none at the end of the message.
    fn field(&mut self) -> Result<Option<(u64, Content)>, ReadError> {
        if self.at == self.end {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => {
                let mut bytes = Vec::new();
                encode_varint(self.varint()?, &mut bytes);
                Content::Number(bytes)
            }
            1 => Content::Number(self.take(8)?),
            5 => Content::Number(self.take(4)?),
            2 => {
                let length = self.varint()?;
                self.fits(length)?;
                Content::Inner(length)
            }
            _ => return Err(ReadError::Malformed(start)),
        };
        Ok(Some((tag, content)))
    }

    /// Adds a field to others.
    fn keep(&mut self, tag: u64, content: Content, to: &mut Vec<u8>) -> Result<(), ReadError> {
        encode_varint(tag, to);
        match content {
            Content::Number(bytes) => to.extend(bytes),
            Content::Inner(length) => {
                encode_varint(length, to);
                to.extend(self.take(length)?);
            }
        }
        Ok(())
    }

    /// Walks over the message of the next `length` bytes.
    fn inner<T>(
        &mut self,
        length: u64,
        read: impl FnOnce(&mut Walk<R>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let end = self.at + length;
        let found = read(&mut Walk { source: &mut *self.source, at: self.at, end })?;
        self.at = end;
        Ok(found)
    }

    fn varint(&mut self) -> Result<u64, ReadError> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ReadError::Malformed(start))
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>, ReadError> {
        self.fits(length)?;
        let mut bytes = Vec::new();
        (&mut *self.source).take(length).read_to_end(&mut bytes)?;
        self.at += length;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(ReadError::Malformed(self.at)) }
    }

    fn skip(&mut self, length: u64) -> Result<(), ReadError> {
        self.fits(length)?;
        self.at += length;
        self.source.seek(SeekFrom::Start(self.at))?;
        Ok(())
    }

    fn fits(&self, length: u64) -> Result<(), ReadError> {
        if length <= self.end - self.at { Ok(()) } else { Err(ReadError::Malformed(self.at)) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn model() -> ModelProto {
        let tensor = |name: &str, raw_data: &[u8]| TensorProto {
            name: name.into(),
            dims: vec![2],
            data_type: 2,
            raw_data: raw_data.into(),
            ..Default::default()
        };
        let graph = GraphProto {
            name: "g".into(),
            initializer: vec![tensor("a", &[1, 2]), tensor("b", b"xyz")],
            ..Default::default()
        };
        ModelProto { ir_version: 8, doc_string: "doc".into(), graph: Some(graph), ..Default::default() }
    }

    #[test]
    fn everything_but_the_numbers_is_read() {
        let (mut expected, bytes) = (model(), model().encode_to_vec());
        let found = read(&mut Cursor::new(&bytes)).unwrap();
        let numbers: Vec<_> =
            found.places.iter().map(|place| &bytes[place.offset as usize..][..place.length as usize]).collect();
        assert_eq!(numbers, [&[1, 2][..], b"xyz"]);
        expected.graph.as_mut().unwrap().initializer.iter_mut().for_each(|tensor| tensor.raw_data.clear());
        assert_eq!(found.model, expected);
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_a_panic_and_no_cut_is_taken_for_the_whole() {
        let bytes = model().encode_to_vec();
        let whole = read(&mut Cursor::new(&bytes)).unwrap();
        for length in 0..bytes.len() {
            assert!(read(&mut Cursor::new(&bytes[..length])).map_or(true, |found| found != whole), "{length}");
        }
        for place in 0..bytes.len() {
            for change in [1, 0x55, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[place] ^= change;
                let _ = read(&mut Cursor::new(&bytes));
            }
        }
        // A length of nearly 2^64 takes no memory.
        assert!(read(&mut Cursor::new([&[0x3a][..], &[0xff; 9], &[1]].concat())).is_err());
    }
}
