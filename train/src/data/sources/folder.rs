//! Class folders whose images are decoded when they are asked for.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use drifting_spec::ImageShape;

use super::{Checksum, Item, Source};
use crate::data::{DataError, Picture, Result, folder};

/// One folder of image files for each class, or one for one class.
#[derive(Debug)]
pub struct ClassFolders {
    classes: Vec<String>,
    folders: Vec<PathBuf>,
    files: Vec<OsString>,
    labels: Vec<u32>,
    sha256: String,
}

impl ClassFolders {
    /// Lists the files of the class folders in `path`, or the images in it where there are none; none is opened.
    ///
    /// # Errors
    /// A folder that cannot be read, neither class folders nor images, a class without files.
    pub fn open(path: &Path) -> Result<Self> {
        let found = folder::classes(path)?;
        let classes: Vec<String> = found.iter().map(|class| class.name.clone()).collect();
        let (mut files, mut labels, mut checksum) = (Vec::new(), Vec::new(), Checksum::default());
        checksum.classes(&classes);
        for (label, class) in found.iter().enumerate() {
            for file in &class.files {
                let Some(name) = file.file_name() else { continue };
                let size = fs::metadata(file).map_err(|source| DataError::Io { path: file.clone(), source })?.len();
                checksum.number(label as u64);
                checksum.text(name.as_encoded_bytes());
                checksum.number(size);
                files.push(name.to_owned());
                labels.push(label as u32);
            }
        }
        let folders = found.into_iter().map(|class| class.folder).collect();
        Ok(Self { classes, folders, files, labels, sha256: checksum.hex() })
    }

    fn file(&self, index: usize) -> PathBuf {
        let name = self.files.get(index).cloned().unwrap_or_default();
        self.folders[self.label(index)].join(name)
    }
}

impl Source for ClassFolders {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.labels.get(index).map_or(0, |&label| label as usize)
    }

    fn name(&self, index: usize) -> String {
        self.file(index).display().to_string()
    }

    fn shape(&self) -> Option<ImageShape> {
        None
    }

    fn read(&self, index: usize, _version: usize) -> Result<Item> {
        let path = self.file(index);
        if path.is_dir() {
            return Err(DataError::image(path.display(), "is a folder, expected an image"));
        }
        let bytes = fs::read(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        Picture::decode(&bytes).map(Item::Picture).map_err(|problem| DataError::image(path.display(), problem))
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{levels, png};
    use super::*;

    #[test]
    fn files_are_listed_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (class, file, level) in [("dog", "b.png", 3), ("cat", "z.png", 1), ("cat", "a.png", 2)] {
            fs::create_dir_all(folder.path().join(class)).unwrap();
            fs::write(folder.path().join(class).join(file), png(level)).unwrap();
        }
        let source = ClassFolders::open(folder.path()).unwrap();
        assert_eq!(
            (source.classes(), levels(&source)),
            (&["cat".into(), "dog".into()][..], vec![(2, 0), (1, 0), (3, 1)])
        );
        let before = source.sha256().to_owned();
        fs::write(folder.path().join("dog/b.png"), b"longer").unwrap();
        let source = ClassFolders::open(folder.path()).unwrap();
        assert_ne!(source.sha256(), before);
        let error = source.read(2, 0).unwrap_err();
        assert!(matches!(error, DataError::Image { .. }) && error.to_string().contains("b.png"), "{error}");
    }

    #[test]
    fn images_without_class_folders_are_one_class() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ClassFolders::open(folder.path()).is_err());
        fs::write(folder.path().join("notes.txt"), "no image").unwrap();
        let error = ClassFolders::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("holds no class folders and no images"), "{error}");
        for (file, level) in [("b.PNG", 3), ("a.png", 2), (".hidden.png", 1)] {
            fs::write(folder.path().join(file), png(level)).unwrap();
        }
        let source = ClassFolders::open(folder.path()).unwrap();
        assert_eq!((source.classes(), levels(&source)), (&["images".into()][..], vec![(2, 0), (3, 0)]));
        // A class folder says that folders are meant.
        fs::create_dir(folder.path().join("cat")).unwrap();
        assert!(ClassFolders::open(folder.path()).unwrap_err().to_string().contains("holds no image"));
        fs::write(folder.path().join("cat/c.png"), png(4)).unwrap();
        let source = ClassFolders::open(folder.path()).unwrap();
        assert_eq!((source.classes(), levels(&source)), (&["cat".into()][..], vec![(4, 0)]));
    }
}
