//! The text entries (`metadata_props`) of an ONNX file, read without an engine.
//!
//! An ONNX file is one protobuf message, `ModelProto`. Only its outermost fields are walked: the graph, which is nearly
//! all of the file, is skipped as one length. Field numbers are those of onnx.proto3.

pub(super) const GRAPH: u64 = 7;
const METADATA_PROPS: u64 = 14;
const ENTRY_KEY: u64 = 1;
const ENTRY_VALUE: u64 = 2;

/// Above every field of these messages, and below what other kinds of files happen to start with.
const LARGEST_FIELD: u64 = 100;

/// Bytes that are no complete ONNX model, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnnxError {
    /// A field is longer than what is left.
    #[error(
        "the file is cut short: a field at byte {at} says {length} bytes, {left} are there; copy or export it again"
    )]
    Truncated {
        /// Where the field's contents start.
        at: usize,
        /// The length it claims.
        length: u64,
        /// What the file still holds.
        left: usize,
    },
    /// Something that protobuf does not know.
    #[error(
        "this is not an ONNX file (byte {at} is no protobuf field); `drifting export RUN --out model.onnx` writes one"
    )]
    NotOnnx {
        /// Where the walk stopped.
        at: usize,
    },
    /// A protobuf message that holds no graph.
    #[error("this is not an ONNX file (it holds no graph); `drifting export RUN --out model.onnx` writes one")]
    NoGraph,
}

/// The value of `key` among the text entries of the ONNX file `bytes`; the last one counts.
///
/// # Errors
/// Bytes that are cut short or no ONNX model at all.
pub(crate) fn entry(bytes: &[u8], key: &str) -> Result<Option<String>, OnnxError> {
    let mut fields = Fields { bytes, at: 0 };
    let (mut graph, mut found) = (false, None);
    while let Some(field) = fields.next_field()? {
        match field {
            (GRAPH, Some(_)) => graph = true,
            (METADATA_PROPS, Some(entry)) => {
                let (name, value) = key_and_value(entry)?;
                if name == key.as_bytes() {
                    found = Some(String::from_utf8_lossy(value).into_owned());
                }
            }
            _ => {}
        }
    }
    if graph { Ok(found) } else { Err(OnnxError::NoGraph) }
}

pub(super) fn key_and_value(entry: &[u8]) -> Result<(&[u8], &[u8]), OnnxError> {
    let mut fields = Fields { bytes: entry, at: 0 };
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    while let Some(field) = fields.next_field()? {
        match field {
            (ENTRY_KEY, Some(bytes)) => key = bytes,
            (ENTRY_VALUE, Some(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((key, value))
}

/// The number of a field and, if it is length-delimited, its contents.
pub(super) type Field<'a> = (u64, Option<&'a [u8]>);

/// A walk over the fields of one protobuf message.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn next_field(&mut self) -> Result<Option<Field<'a>>, OnnxError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let (number, wire_type) = (tag >> 3, tag & 7);
        let contents = match wire_type {
            _ if !(1..=LARGEST_FIELD).contains(&number) => return Err(OnnxError::NotOnnx { at: start }),
            0 => self.varint().map(|_| None)?,
            1 => self.take(8).map(|_| None)?,
            2 => {
                let length = self.varint()?;
                Some(self.take(length)?)
            }
            5 => self.take(4).map(|_| None)?,
            _ => return Err(OnnxError::NotOnnx { at: start }),
        };
        Ok(Some((number, contents)))
    }

    fn varint(&mut self) -> Result<u64, OnnxError> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { break };
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(OnnxError::NotOnnx { at: start })
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], OnnxError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or(OnnxError::Truncated { at: self.at, length, left: rest.len() })?;
        self.at += taken.len();
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, contents: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, contents.len() as u8], contents].concat()
    }

    fn model() -> Vec<u8> {
        let entry =
            |key: &str, value: &str| field(14, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
        let version = vec![8, 8];
        let graph = field(7, b"not looked into");
        [version, entry("other", "1"), graph, entry("ours", "two")].concat()
    }

    #[test]
    fn entries_are_found_around_the_graph() {
        assert_eq!(entry(&model(), "ours").unwrap().as_deref(), Some("two"));
        assert_eq!(entry(&model(), "other").unwrap().as_deref(), Some("1"));
        assert_eq!(entry(&model(), "third").unwrap(), None);
    }

    #[test]
    fn every_cut_is_noticed_or_loses_only_the_end() {
        let whole = model();
        for length in 0..whole.len() {
            // Between two fields a cut cannot be seen; the entry behind it is then missing.
            assert!(!matches!(entry(&whole[..length], "ours"), Ok(Some(_))), "{length}");
        }
        let cut = entry(&whole[..whole.len() - 1], "ours").unwrap_err();
        assert!(cut.to_string().contains("cut short"), "{cut}");
    }

    #[test]
    fn other_files_are_not_onnx() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        for bytes in [&b"PK\x03\x04"[..], png, b"\0\0\0\0", &[0xff; 40], b"", &[0x3a]] {
            assert!(entry(bytes, "ours").is_err(), "{bytes:?}");
        }
        assert_eq!(entry(&[8, 8], "ours"), Err(OnnxError::NoGraph));
        let endless = [&[0x3a][..], &[0xff; 9], &[1]].concat();
        assert!(matches!(entry(&endless, "ours"), Err(OnnxError::Truncated { length: u64::MAX, .. })));
    }
}
