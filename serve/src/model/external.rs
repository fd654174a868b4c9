//! The file beside a model that holds its weights.
//!
//! An initializer (`TensorProto`) may say that its numbers lie in another file, by name, first byte and length. A name
//! that leads out of the model's folder would let a model read any file of the machine, so it is refused here, whatever
//! the engines do.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::metadata::{Fields, GRAPH, OnnxError, key_and_value};

const INITIALIZER: u64 = 5;
const EXTERNAL_DATA: u64 = 13;

/// Weights that cannot be had, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExternalError {
    /// A name that is more than that.
    #[error("its weights lie in {0:?}; only a plain name of a file beside the model is opened")]
    Outside(String),
    /// It is not there.
    #[error("its weights lie in {0:?} beside it, which cannot be opened: {1}; copy both files, or export again")]
    Missing(String, String),
    /// It ends too early.
    #[error(
        "its weights lie in {name:?} beside it, which has {found} bytes instead of at least {needed}; copy it again"
    )]
    Short {
        /// The file.
        name: String,
        /// Bytes that the model points to.
        needed: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The entries of a weight contradict themselves.
    #[error("a weight says that it lies in another file, but not where: it needs location, offset and length")]
    Incomplete,
    /// The model is in memory.
    #[error("its weights lie in {0:?} beside it, and this model was not opened from a folder")]
    NoFolder(String),
}

/// Another file that a model names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExternalFile {
    pub(super) name: String,
    /// Where its last number ends.
    needed: u64,
}

impl ExternalFile {
    /// Its path beside the model `model`.
    ///
    /// # Errors
    /// It leads elsewhere, is not there or too short.
    pub(super) fn find(&self, model: &Path) -> Result<PathBuf, ExternalError> {
        let missing = |problem: &dyn std::fmt::Display| ExternalError::Missing(self.name.clone(), problem.to_string());
        let plain = matches!(Path::new(&self.name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
        if !plain || self.name.contains(['/', '\\']) {
            return Err(ExternalError::Outside(self.name.clone()));
        }
        let path = model.with_file_name(&self.name);
        let data = path.symlink_metadata().map_err(|error| missing(&error))?;
        if !data.is_file() {
            return Err(missing(&"it is no plain file"));
        }
        if data.len() < self.needed {
            return Err(ExternalError::Short { name: self.name.clone(), needed: self.needed, found: data.len() });
        }
        Ok(path)
    }
}

/// The other files that the initializers of the ONNX file `bytes` name, in the order of their names.
///
/// # Errors
/// Bytes that are no ONNX file; an initializer that does not say where it lies.
pub(super) fn files(bytes: &[u8]) -> Result<Vec<ExternalFile>, FilesError> {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next_field()? {
        let (GRAPH, Some(graph)) = field else { continue };
        let mut fields = Fields::new(graph);
        while let Some(field) = fields.next_field()? {
            let (INITIALIZER, Some(tensor)) = field else { continue };
            if let Some((name, end)) = place(tensor)? {
                let needed = found.entry(name).or_default();
                *needed = end.max(*needed);
            }
        }
    }
    Ok(found.into_iter().map(|(name, needed)| ExternalFile { name, needed }).collect())
}

/// The file of a tensor and where the tensor ends in it; none if it lies in the model.
fn place(tensor: &[u8]) -> Result<Option<(String, u64)>, FilesError> {
    let mut entries = BTreeMap::new();
    let mut fields = Fields::new(tensor);
    while let Some(field) = fields.next_field()? {
        if let (EXTERNAL_DATA, Some(entry)) = field {
            let (key, value) = key_and_value(entry)?;
            entries.insert(key, String::from_utf8_lossy(value).into_owned());
        }
    }
    if entries.is_empty() {
        return Ok(None);
    }
    let number = |key: &[u8]| entries.get(key)?.parse::<u64>().ok();
    let end = number(b"offset").zip(number(b"length")).and_then(|(offset, length)| offset.checked_add(length));
    let name = entries.get(&b"location"[..]).filter(|name| !name.is_empty());
    Ok(Some(name.cloned().zip(end).ok_or(ExternalError::Incomplete)?))
}

/// What [`files`] may find wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error(transparent)]
    External(#[from] ExternalError),
}

impl From<FilesError> for super::ModelProblem {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Onnx(error) => error.into(),
            FilesError::External(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn field(number: u8, contents: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, contents.len() as u8], contents].concat()
    }

    fn model(entries: &[(&str, &str)]) -> Vec<u8> {
        let entry =
            |(key, value): &(&str, &str)| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
        let tensor: Vec<u8> = entries.iter().flat_map(entry).collect();
        field(7, &[field(5, &[8, 4]), field(5, &tensor)].concat())
    }

    #[test]
    fn files_and_their_lengths_are_found() {
        let found = files(&model(&[("location", "a.data"), ("offset", "4096"), ("length", "8")])).unwrap();
        assert_eq!(found, [ExternalFile { name: "a.data".into(), needed: 4104 }]);
        assert_eq!(files(&model(&[])).unwrap(), []);
        for wrong in [
            &[("location", "a"), ("offset", "0")][..],
            &[("location", "a"), ("offset", "18446744073709551615"), ("length", "1")],
            &[("location", "a"), ("offset", "-1"), ("length", "1")],
            &[("offset", "0"), ("length", "1")],
        ] {
            assert!(matches!(files(&model(wrong)), Err(FilesError::External(ExternalError::Incomplete))), "{wrong:?}");
        }
    }

    #[test]
    fn only_a_plain_file_beside_the_model_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inner/model.onnx");
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("secret"), "0123456789").unwrap();
        fs::write(path.with_file_name("model.onnx.data"), "0123").unwrap();
        let find = |name: &str, needed| ExternalFile { name: name.into(), needed }.find(&path);
        for outside in ["../secret", "/etc/passwd", "..", ".", "inner/../secret", "./model.onnx.data", "a\\b"] {
            assert_eq!(find(outside, 1), Err(ExternalError::Outside(outside.into())));
        }
        assert_eq!(find("model.onnx.data", 4).unwrap(), path.with_file_name("model.onnx.data"));
        assert!(matches!(find("model.onnx.data", 5), Err(ExternalError::Short { needed: 5, found: 4, .. })));
        assert!(matches!(find("absent", 1), Err(ExternalError::Missing(..))));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", path.with_file_name("link")).unwrap();
            assert!(matches!(find("link", 1), Err(ExternalError::Missing(..))));
        }
    }
}
