//! A model file: the bytes of an ONNX graph and the manifest that describes it.

mod inspect;
mod metadata;
mod nested;
mod source;
mod wire;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use drifting_spec::{MANIFEST_KEY, Manifest, ManifestError, NETWORK_KEY, PROFILE_KEY};
use sha2::{Digest, Sha256};

use inspect::External;
pub use source::Source;
pub use wire::OnnxError;

/// The largest file that is kept in memory for an engine, in bytes; an engine opens a larger one itself.
const LARGEST_IN_MEMORY: usize = 64 << 20;

/// An exported generator that was read from disk, not yet loaded into an engine.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the file says about itself.
    pub manifest: Manifest,
    /// Where an engine finds the ONNX file.
    pub source: Source,
    /// Bytes of the file and of that with its weights.
    pub size: u64,
    /// SHA-256 of the file, and of the file with its weights behind them, in hexadecimal.
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
    /// It was not written by `drifting export`.
    #[error(
        "the ONNX file carries no {MANIFEST_KEY}; only files that `drifting export RUN --out model.onnx` wrote can be served"
    )]
    NoManifest,
    /// It holds a decoder or an encoder without a generator.
    #[error(
        "the ONNX file holds a part of a model and no generator; `drifting export RUN --decoder FOLDER` makes one file of a \
         generator and its decoder"
    )]
    NoGenerator,
    /// A part of it lies in another file that cannot be used.
    #[error("tensor {tensor:?} lies in {location:?}: {problem}")]
    External {
        /// The tensor.
        tensor: String,
        /// The other file.
        location: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// Its manifest contradicts itself or is of another version.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Model {
    /// Reads and checks the model file `path`.
    ///
    /// # Errors
    /// Names the file and what to do: it cannot be read, is cut short, is not ONNX, carries no usable manifest, holds tensors
    /// that claim more than is there, or parts of it lie anywhere but in a file beside it.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let read = || {
            let file = Source::file(path)?;
            Self::checked(read(path)?, Some((path, file)), LARGEST_IN_MEMORY)
        };
        read().map_err(|problem| ModelError { path: path.to_owned(), problem })
    }

    /// Checks the bytes of a model file that needs no other.
    ///
    /// # Errors
    /// As [`Model::open`], without the file's name.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ModelProblem> {
        Self::checked(bytes, None, usize::MAX)
    }

    fn checked(bytes: Vec<u8>, file: Option<(&Path, Source)>, largest: usize) -> Result<Self, ModelProblem> {
        let Some(json) = metadata::entry(&bytes, MANIFEST_KEY)? else {
            let part = metadata::entry(&bytes, NETWORK_KEY)?;
            return Err(if part.is_some() { ModelProblem::NoGenerator } else { ModelProblem::NoManifest });
        };
        let manifest = Manifest::parse(&json)?;
        let folder = file.as_ref().map(|(path, _)| path.parent().unwrap_or(Path::new(".")));
        let mut others = BTreeSet::new();
        for external in inspect::inspect(&bytes)? {
            let External { tensor, location, .. } = &external;
            let (tensor, location) = (tensor.clone(), location.clone());
            beside(&external, folder).map_err(|problem| ModelProblem::External { tensor, location, problem })?;
            others.insert(external.location);
        }
        let profile = metadata::entry(&bytes, PROFILE_KEY)?;
        let (mut hash, mut size) = (Sha256::new().chain_update(&bytes), bytes.len() as u64);
        let mut file = file.map(|(_, file)| file);
        for other in &others {
            let path = folder.unwrap_or(Path::new(".")).join(other);
            file = file.map(|file| file.and(path.clone())).transpose()?;
            size += add(&mut hash, &path)?;
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let source = match file {
            Some(file) if bytes.len() > largest || !others.is_empty() => file,
            _ => Source::Bytes(bytes),
        };
        Ok(Self { manifest, source, size, sha256, profile })
    }
}

/// Hashes a file; returns its length.
fn add(hash: &mut Sha256, path: &Path) -> io::Result<u64> {
    let (mut file, mut size) = (BufReader::with_capacity(1 << 20, File::open(path)?), 0);
    loop {
        let bytes = file.fill_buf()?;
        let length = bytes.len();
        if length == 0 {
            return Ok(size);
        }
        hash.update(bytes);
        file.consume(length);
        size += length as u64;
    }
}

/// The bytes of a regular file: a device may have no end, and a pipe no beginning.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
    }
    fs::read(path)
}

/// Checks that a tensor's numbers lie in a file of the model's own folder, and that they are there.
fn beside(external: &External, folder: Option<&Path>) -> Result<(), String> {
    let External { location, offset, length, .. } = external;
    let Some(folder) = folder else {
        return Err("only a model that was opened by its path has other files".to_owned());
    };
    // Whatever this machine takes for a separator: a model may come from another one.
    if location.is_empty() || matches!(location.as_str(), "." | "..") || location.contains(['/', '\\', ':', '\0']) {
        return Err("only a file beside the model can hold a part of it".to_owned());
    }
    let about = fs::metadata(folder.join(location)).map_err(|error| error.to_string())?;
    let end = offset.checked_add(*length);
    match end {
        _ if !about.is_file() => Err("is no regular file".to_owned()),
        Some(end) if end <= about.len() => Ok(()),
        _ => Err(format!("{length} bytes from {offset} on are not in a file of {}", about.len())),
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
    fn a_large_file_is_left_to_the_engine() {
        let json = serde_json::to_string(&crate::testing::manifest()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"as it was").unwrap();
        let entry = |key: &str, value: &str| {
            let field = |tag: u8, text: &str| {
                [&[tag, text.len() as u8 | 0x80, (text.len() >> 7) as u8], text.as_bytes()].concat()
            };
            let pair = [field(0x0a, key), field(0x12, value)].concat();
            [&[0x72, pair.len() as u8 | 0x80, (pair.len() >> 7) as u8][..], &pair].concat()
        };
        let bytes = [&[0x3a, 0][..], &entry(MANIFEST_KEY, &json)].concat();
        let source = |largest| {
            let seen = Source::file(file.path()).unwrap();
            Model::checked(bytes.clone(), Some((file.path(), seen)), largest).unwrap().source
        };
        assert!(matches!(source(bytes.len()), Source::Bytes(found) if found == bytes));
        let large = source(bytes.len() - 1);
        assert!(matches!(&large, Source::File { path, .. } if path == file.path()));
        assert!(large.is_unchanged());
        fs::write(file.path(), b"another model").unwrap();
        assert!(!large.is_unchanged());
    }

    #[test]
    fn parts_lie_beside_the_model_or_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.onnx.data"), [0; 100]).unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        let problem = |location: &str, offset, length, folder| {
            let external = External { tensor: "w".into(), location: location.into(), offset, length };
            beside(&external, folder).err().unwrap_or_default()
        };
        let here = Some(folder.path());
        assert_eq!(problem("model.onnx.data", 96, 4, here), "");
        assert!(problem("model.onnx.data", 97, 4, here).contains("4 bytes from 97 on are not in a file of 100"));
        assert!(problem("model.onnx.data", u64::MAX, 4, here).contains("are not in a file"));
        assert!(problem("sub", 0, 0, here).contains("no regular file"));
        assert!(problem("absent", 0, 0, here).contains("No such file"));
        for elsewhere in ["../model.onnx.data", "/etc/passwd", "", "..", ".", "sub/x", "a\\b", "C:x"] {
            assert!(problem(elsewhere, 0, 0, here).contains("only a file beside the model"), "{elsewhere}");
        }
        assert!(problem("model.onnx.data", 0, 4, None).contains("opened by its path"));
        assert!(Model::open(folder.path()).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn what_is_no_generator_of_this_layout_is_refused() {
        let model = |key: &str, value: &[u8]| {
            let entry = [&[0x0a, key.len() as u8], key.as_bytes(), &[0x12, value.len() as u8], value].concat();
            [&[0x3a, 0, 0x72, entry.len() as u8], &entry[..]].concat()
        };
        let other = Model::from_bytes(model(MANIFEST_KEY, br#"{"format": 9}"#));
        assert!(matches!(other, Err(ModelProblem::Manifest(ManifestError::Format(9)))));
        assert!(matches!(Model::from_bytes(model(NETWORK_KEY, b"{}")), Err(ModelProblem::NoGenerator)));
        assert!(matches!(Model::from_bytes(model("another", b"{}")), Err(ModelProblem::NoManifest)));
    }
}
