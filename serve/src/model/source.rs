//! Where an engine finds the ONNX file of a model.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

/// The ONNX file, in memory or on disk.
#[derive(Clone, Debug)]
pub enum Source {
    /// The whole file.
    Bytes(Vec<u8>),
    /// A large file, or one whose weights lie in another beside it: an engine opens it itself.
    File {
        /// The file.
        path: PathBuf,
        /// Its length and the time of its last change when it was checked.
        seen: (u64, SystemTime),
    },
}

impl Source {
    /// The file at `path` as it is now.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File { path: path.to_owned(), seen: state(path)? })
    }

    /// Whether the file is still the one that was checked.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        match self {
            Self::Bytes(_) => true,
            Self::File { path, seen } => state(path).is_ok_and(|now| now == *seen),
        }
    }
}

fn state(path: &Path) -> io::Result<(u64, SystemTime)> {
    let about = fs::metadata(path)?;
    Ok((about.len(), about.modified()?))
}
