//! A model file: the bytes of an ONNX graph and the manifest that describes it.

mod metadata;

use std::fs;
use std::path::{Path, PathBuf};

use drifting_spec::{MANIFEST_KEY, Manifest, ManifestError};
use sha2::{Digest, Sha256};

pub use metadata::OnnxError;

/// An exported generator that was read from disk, not yet loaded into an engine.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the file says about itself.
    pub manifest: Manifest,
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes` in hexadecimal.
    pub sha256: String,
}

/// A model file that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ModelError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: ModelProblem,
}

/// What can be wrong with a model file.
#[derive(Debug, thiserror::Error)]
pub enum ModelProblem {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is not a complete ONNX file.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// It was not written by `drifting export`.
    #[error(
        "the ONNX file carries no {MANIFEST_KEY}; only files that `drifting export RUN --out model.onnx` wrote can be served"
    )]
    NoManifest,
    /// Its manifest contradicts itself or is of another version.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Model {
    /// Reads and checks the model file `path`.
    ///
    /// # Errors
    /// Names the file and what to do: it cannot be read, is cut short, is not ONNX, or carries no usable manifest.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let read = || Self::from_bytes(fs::read(path)?);
        read().map_err(|problem| ModelError { path: path.to_owned(), problem })
    }

    /// Checks the bytes of a model file.
    ///
    /// # Errors
    /// As [`Model::open`], without the file's name.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ModelProblem> {
        let json = metadata::entry(&bytes, MANIFEST_KEY)?.ok_or(ModelProblem::NoManifest)?;
        let manifest = Manifest::parse(&json)?;
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { manifest, bytes, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let message = |name: &str, bytes: Option<&[u8]>| {
            let path = folder.path().join(name);
            if let Some(bytes) = bytes {
                fs::write(&path, bytes).unwrap();
            }
            let text = Model::open(&path).unwrap_err().to_string();
            assert!(text.contains(name), "{text}");
            text
        };
        message("absent.onnx", None);
        assert!(message("image.onnx", Some(b"\x89PNG\r\n")).contains("drifting export"));
        assert!(message("foreign.onnx", Some(&[0x3a, 1, 0])).contains("drifting export"));
        assert!(message("short.onnx", Some(&[0x3a, 9, 0])).contains("cut short"));
    }

    #[test]
    fn a_manifest_of_another_layout_is_refused() {
        let (key, value) = (MANIFEST_KEY.as_bytes(), br#"{"format": 9}"#);
        let entry = [&[0x0a, key.len() as u8], key, &[0x12, value.len() as u8], value].concat();
        let bytes = [&[0x3a, 0, 0x72, entry.len() as u8], &entry[..]].concat();
        assert!(matches!(Model::from_bytes(bytes), Err(ModelProblem::Manifest(ManifestError::Format(9)))));
    }
}
