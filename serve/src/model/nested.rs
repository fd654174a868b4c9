//! Lengths within lengths: parts of a message that nothing here needs, and whose claims an engine may believe.
//!
//! A reader that takes a length from within a message and does not hold it against the message's own end asks for as much
//! memory as the length says. So every level is walked, down to the last text.

use super::inspect::each;
use super::wire::{Fields, OnnxError};

/// Types within types; a sequence of sequences is more than any export has.
const DEEPEST: usize = 16;

/// A message that describes a value.
#[derive(Clone, Copy)]
pub(super) enum Message {
    ValueInfo,
    Type,
    TensorType,
    SequenceType,
    Shape,
    Dimension,
}

impl Message {
    /// What the field `number` holds, if that is a message.
    fn field(self, number: u64) -> Option<Self> {
        match (self, number) {
            (Self::ValueInfo, 2) | (Self::SequenceType, 1) => Some(Self::Type),
            (Self::Type, 1) => Some(Self::TensorType),
            (Self::Type, 4) => Some(Self::SequenceType),
            (Self::TensorType, 2) => Some(Self::Shape),
            (Self::Shape, 1) => Some(Self::Dimension),
            _ => None,
        }
    }

    /// Walks over a message and those in it.
    ///
    /// # Errors
    /// Bytes that are no message, a length beyond the end of what it lies in, types too deep in each other.
    pub(super) fn check(self, bytes: &[u8], depth: usize) -> Result<(), OnnxError> {
        if depth > DEEPEST {
            return Err(OnnxError::Graph(format!("types lie more than {DEEPEST} deep in each other")));
        }
        each(bytes, &mut |field| match field.contents.zip(self.field(field.number)) {
            Some((contents, message)) => message.check(contents, depth + 1),
            None => Ok(()),
        })
    }
}

/// Calls `visit` with each number of a packed list, the last of which may not run beyond it.
///
/// # Errors
/// A list that ends within a number.
pub(super) fn packed(list: &[u8], mut visit: impl FnMut(u64)) -> Result<(), OnnxError> {
    let mut numbers = Fields::new(list);
    while !numbers.is_done() {
        let number = numbers.varint().map_err(|_| OnnxError::Graph("a list ends within a number".to_owned()))?;
        visit(number);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, contents: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, contents.len() as u8], contents].concat()
    }

    /// A value whose dimension is `dimension`.
    fn value(dimension: &[u8]) -> Vec<u8> {
        let tensor = field(1, &field(2, &field(1, dimension)));
        [field(1, b"x"), field(2, &tensor)].concat()
    }

    #[test]
    fn every_length_lies_within_its_message() {
        let check = |bytes: &[u8]| Message::ValueInfo.check(bytes, 0).map_err(|error| error.to_string());
        check(&value(&field(2, b"batch"))).unwrap();
        check(&field(2, &field(4, &field(1, &field(1, b"\x08\x01"))))).unwrap();
        for (name, dimension) in
            [("one byte more", &b"\x12\x06batch"[..]), ("2^62 bytes", b"\x12\x80\x80\x80\x80\x80\x80\x80\x80\x40")]
        {
            assert!(check(&value(dimension)).unwrap_err().contains("no message of ONNX"), "{name}");
        }
        let deep = (0..DEEPEST).fold(Vec::new(), |kind, _| field(4, &field(1, &kind)));
        assert!(check(&field(2, &deep)).unwrap_err().contains("deep in each other"));
    }

    #[test]
    fn a_list_ends_with_a_number() {
        let numbers = |list: &[u8]| {
            let mut found = Vec::new();
            packed(list, |number| found.push(number)).map(|()| found)
        };
        assert_eq!(numbers(&[1, 0x80, 1, 0x7f]).unwrap(), [1, 128, 127]);
        assert!(numbers(&[1, 0x80]).is_err() && numbers(&[0xff; 11]).is_err());
    }
}
