//! The text entries (`metadata_props`) of an ONNX file, read without an engine.
//!
//! An ONNX file is one protobuf message, `ModelProto`. Only its outermost fields are walked: the graph, which is nearly
//! all of the file, is skipped as one length. Field numbers are those of onnx.proto3.

use super::wire::{Fields, OnnxError};

pub(super) const GRAPH: u64 = 7;
const METADATA_PROPS: u64 = 14;
const ENTRY_KEY: u64 = 1;
const ENTRY_VALUE: u64 = 2;

/// The value of `key` among the text entries of the ONNX file `bytes`; the last one counts.
///
/// # Errors
/// Bytes that are cut short or no ONNX model at all.
pub(crate) fn entry(bytes: &[u8], key: &str) -> Result<Option<String>, OnnxError> {
    let mut fields = Fields::new(bytes);
    let (mut graph, mut found) = (false, None);
    while let Some(field) = fields.next_field()? {
        match (field.number, field.contents) {
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

/// The parts of a StringStringEntryProto.
pub(super) fn key_and_value(entry: &[u8]) -> Result<(&[u8], &[u8]), OnnxError> {
    let mut fields = Fields::new(entry);
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    while let Some(field) = fields.next_field()? {
        match (field.number, field.contents) {
            (ENTRY_KEY, Some(bytes)) => key = bytes,
            (ENTRY_VALUE, Some(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((key, value))
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
