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
        /// It and the files beside it that hold parts of it, as they were when they were checked.
        seen: Vec<Seen>,
    },
}

/// A file at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    path: PathBuf,
    length: u64,
    changed: SystemTime,
    /// Which file it is: another one may have been put in its place.
    inode: u64,
}

impl Seen {
    /// The file at `path` as it is now.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(super) fn now(path: PathBuf) -> io::Result<Self> {
        let about = fs::metadata(&path)?;
        Ok(Self { path, length: about.len(), changed: about.modified()?, inode: inode(&about) })
    }
}

#[cfg(unix)]
fn inode(about: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(about)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

impl Source {
    /// The file at `path` as it is now.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File { path: path.to_owned(), seen: vec![Seen::now(path.to_owned())?] })
    }

    /// The same with another file that holds a part of it, as that is now.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(super) fn and(self, other: PathBuf) -> io::Result<Self> {
        Ok(match self {
            Self::Bytes(bytes) => Self::Bytes(bytes),
            Self::File { path, mut seen } => {
                seen.push(Seen::now(other)?);
                Self::File { path, seen }
            }
        })
    }

    /// Whether the files are still those that were checked.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        match self {
            Self::Bytes(_) => true,
            Self::File { seen, .. } => {
                seen.iter().all(|then| Seen::now(then.path.clone()).is_ok_and(|now| now == *then))
            }
        }
    }
}
