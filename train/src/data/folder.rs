//! Folders of class folders.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DataError, Result};

/// The class folders in `folder`, sorted by name. Hidden folders do not count.
fn class_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(list(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// Names of the class folders in `path`.
pub(super) fn classes(path: &Path) -> Result<Vec<String>> {
    let name = |folder: &PathBuf| {
        let name = folder.file_name().and_then(|name| name.to_str());
        name.map(String::from).ok_or_else(|| DataError::file(folder, "has a name that is not UTF-8"))
    };
    let classes = class_folders(path)?.iter().map(name).collect::<Result<Vec<_>>>()?;
    if classes.is_empty() {
        return Err(DataError::file(path, "holds no class folders: put the images of each class into a folder"));
    }
    Ok(classes)
}

/// The entries of a folder in the order of their names, without hidden ones.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| DataError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
