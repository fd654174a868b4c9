//! Protobuf's fields one by one, without copies.

/// Above every field of ONNX's messages, and below what other kinds of files happen to start with.
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
    /// A graph that no exporter writes and no engine should be given.
    #[error("the graph is damaged: {0}; export it again")]
    Graph(String),
    /// A protobuf message that holds no graph.
    #[error("this is not an ONNX file (it holds no graph); `drifting export RUN --out model.onnx` writes one")]
    NoGraph,
}

/// One field of a message.
pub(super) struct Field<'a> {
    pub(super) number: u64,
    /// What a length-delimited field holds.
    pub(super) contents: Option<&'a [u8]>,
    /// The value of a varint; 0 for every other field.
    pub(super) value: u64,
}

/// A walk over the fields of one protobuf message.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next field, until the message ends.
    ///
    /// # Errors
    /// Bytes that are no field, and a field that is longer than the message.
    pub(super) fn next_field(&mut self) -> Result<Option<Field<'a>>, OnnxError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        let (number, wire_type) = (tag >> 3, tag & 7);
        let (mut contents, mut value) = (None, 0);
        match wire_type {
            _ if !(1..=LARGEST_FIELD).contains(&number) => return Err(OnnxError::NotOnnx { at: start }),
            0 => value = self.varint()?,
            1 => drop(self.take(8)?),
            2 => {
                let length = self.varint()?;
                contents = Some(self.take(length)?);
            }
            5 => drop(self.take(4)?),
            _ => return Err(OnnxError::NotOnnx { at: start }),
        }
        Ok(Some(Field { number, contents, value }))
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// A number of variable length.
    ///
    /// # Errors
    /// More than ten bytes, or too few.
    pub(super) fn varint(&mut self) -> Result<u64, OnnxError> {
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
