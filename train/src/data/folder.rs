//! Folders of class folders.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DataError, Result};

/// What the one class of a folder without class folders is called.
const ONE_CLASS: &str = "images";
/// Endings of the images of such a folder; a class folder holds nothing else.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];

/// The images of a class.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) files: Vec<PathBuf>,
}

/// The classes in `path`: folders, in the order of their names; hidden ones do not count. Where there are none, the images
/// in it are one class.
pub(super) fn classes(path: &Path) -> Result<Vec<Class>> {
    let entries = list(path)?;
    let folders: Vec<PathBuf> = entries.iter().filter(|path| path.is_dir()).cloned().collect();
    if folders.is_empty() {
        let files: Vec<PathBuf> = entries.into_iter().filter(|path| is_image(path)).collect();
        if files.is_empty() {
            let problem = "holds no class folders and no images: put the images of each class into a folder";
            return Err(DataError::file(path, problem));
        }
        return Ok(vec![Class { name: ONE_CLASS.to_owned(), folder: path.to_owned(), files }]);
    }
    let class = |folder: PathBuf| {
        let name = folder.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| DataError::file(&folder, "has a name that is not UTF-8"))?.to_owned();
        let files = list(&folder)?;
        match files.is_empty() {
            true => Err(DataError::file(&folder, "holds no image")),
            false => Ok(Class { name, folder, files }),
        }
    };
    folders.into_iter().map(class).collect()
}

/// Whether there are class folders or images in `path`.
pub(super) fn is_present(path: &Path) -> bool {
    list(path).is_ok_and(|entries| entries.iter().any(|path| path.is_dir() || is_image(path)))
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&&*ending)) && path.is_file()
}

/// The entries of a folder in the order of their names, without hidden ones.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
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
