//! Zip archives whose files are not compressed, as PyTorch writes them.

use std::collections::BTreeMap;

/// The end of the directory, without its comment.
const END: usize = 22;
const ENTRY: usize = 46;
const LOCAL: usize = 30;

/// The files of an archive by their names.
///
/// # Errors
/// What is wrong, without the archive's name.
pub(super) fn files(archive: &[u8]) -> Result<BTreeMap<String, &[u8]>, String> {
    let cut = || "a zip archive that is cut short".to_owned();
    let end = archive.windows(END).rposition(|window| window.starts_with(b"PK\x05\x06")).ok_or_else(cut)?;
    let count = number(archive, end + 10, 2).ok_or_else(cut)?;
    let mut at = number(archive, end + 16, 4).ok_or_else(cut)?;
    let mut files = BTreeMap::new();
    for _ in 0..count {
        let entry = archive.get(at..at + ENTRY).filter(|entry| entry.starts_with(b"PK\x01\x02")).ok_or_else(cut)?;
        let field = |at, bytes| number(entry, at, bytes).ok_or_else(cut);
        let (method, length, local) = (field(10, 2)?, field(24, 4)?, field(42, 4)?);
        let [name, extra, comment] = [field(28, 2)?, field(30, 2)?, field(32, 2)?];
        let text = archive.get(at + ENTRY..at + ENTRY + name).ok_or_else(cut)?;
        let text = String::from_utf8_lossy(text).into_owned();
        if method != 0 {
            return Err(format!("{text:?} in the zip archive is compressed; PyTorch's are not"));
        }
        let before = number(archive, local.saturating_add(26), 2).zip(number(archive, local.saturating_add(28), 2));
        let start = before.map(|(name, extra)| local + LOCAL + name + extra).ok_or_else(cut)?;
        files.insert(text, archive.get(start..start.saturating_add(length)).ok_or_else(cut)?);
        at += ENTRY + name + extra + comment;
    }
    Ok(files)
}

fn number(bytes: &[u8], at: usize, count: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| (number << 8) | usize::from(*byte)))
}
