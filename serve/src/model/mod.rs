//! A model file: the bytes of an ONNX graph and the manifest that describes it.

mod external;
mod metadata;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use drifting_spec::{MANIFEST_KEY, Manifest, ManifestError, PROFILE_KEY};
use sha2::{Digest, Sha256};

pub use external::ExternalError;

pub use metadata::OnnxError;

/// An exported generator that was read from disk, not yet loaded into an engine.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the file says about itself.
    pub manifest: Manifest,
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// Where the file lies, if its weights lie in a file beside it: then an engine must open it there.
    pub path: Option<PathBuf>,
    /// Bytes of the file and of that with its weights.
    pub size: u64,
    /// SHA-256 of `bytes`, and of the file with its weights behind them, in hexadecimal.
    pub sha256: String,
    /// For which engines the graph is spelled, and in which numbers; absent from files of older versions.
    pub profile: Option<String>,
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
    /// Its weights lie elsewhere, and cannot be had.
    #[error(transparent)]
    External(#[from] ExternalError),
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
    /// Reads and checks the model file `path`, and the file with its weights if it names one.
    ///
    /// # Errors
    /// Names the file and what to do: it cannot be read, is cut short, is not ONNX, carries no usable manifest, or names
    /// weights that are not beside it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let read = || {
            let mut model = Self::read(fs::read(path)?)?;
            for place in external::files(&model.bytes)? {
                let beside = place.find(path)?;
                model.size += fs::metadata(&beside)?.len();
                model.path = Some(path.to_owned());
                model.sha256.clear();
            }
            if model.path.is_some() {
                model.sha256 = sha256(&model.bytes, &external::files(&model.bytes)?, path)?;
            }
            Ok(model)
        };
        read().map_err(|problem| ModelError { path: path.to_owned(), problem })
    }

    /// Checks the bytes of a model file that holds its weights.
    ///
    /// # Errors
    /// As [`Model::open`], without the file's name; a model whose weights lie in another file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ModelProblem> {
        let model = Self::read(bytes)?;
        match external::files(&model.bytes)?.into_iter().next() {
            Some(file) => Err(ExternalError::NoFolder(file.name).into()),
            None => Ok(model),
        }
    }

    fn read(bytes: Vec<u8>) -> Result<Self, ModelProblem> {
        let json = metadata::entry(&bytes, MANIFEST_KEY)?.ok_or(ModelProblem::NoManifest)?;
        let manifest = Manifest::parse(&json)?;
        let profile = metadata::entry(&bytes, PROFILE_KEY)?;
        let sha256 = hex(Sha256::new().chain_update(&bytes));
        Ok(Self { manifest, size: bytes.len() as u64, bytes, path: None, sha256, profile })
    }
}

/// SHA-256 of a model and of the files beside `path` that it names.
fn sha256(bytes: &[u8], files: &[external::ExternalFile], path: &Path) -> Result<String, ModelProblem> {
    let mut hash = Sha256::new().chain_update(bytes);
    for file in files {
        let mut file = BufReader::with_capacity(1 << 20, File::open(file.find(path)?)?);
        loop {
            let bytes = file.fill_buf().map_err(io::Error::from)?;
            let length = bytes.len();
            if length == 0 {
                break;
            }
            hash.update(bytes);
            file.consume(length);
        }
    }
    Ok(hex(hash))
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
