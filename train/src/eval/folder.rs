//! Images that lie in a folder, as other programs write them.

use std::path::{Path, PathBuf};

use drifting_spec::ImageShape;
use rayon::prelude::*;

use super::set::pixels;
use super::{EvalError, ImageSet, Pixels, Result};
use crate::data::Picture;

/// Endings of files that are read.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// PNG and JPEG files of one size: in class folders, or all in one.
#[derive(Clone, Debug)]
pub struct FolderImages {
    files: Vec<PathBuf>,
    labels: Vec<Option<usize>>,
    shape: ImageShape,
}

impl FolderImages {
    /// Lists the images of a folder in the order of their names. Sub-folders give their names as classes; where not one of
    /// them is among `classes`, no class is known.
    ///
    /// # Errors
    /// A folder that cannot be read or holds no images, files that are neither PNG nor JPEG, files beside class folders,
    /// a folder that is no class where another one is.
    pub fn open(path: &Path, classes: &[String]) -> Result<Self> {
        let entries = list(path)?;
        let folders: Vec<&PathBuf> = entries.iter().filter(|entry| entry.is_dir()).collect();
        if let (false, Some(file)) = (folders.is_empty(), entries.iter().find(|entry| !entry.is_dir())) {
            return Err(problem(file, "lies beside class folders: put it into one".to_owned()));
        }
        let class = |folder: &Path| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            classes.iter().position(|class| *class == name)
        };
        let any = folders.iter().any(|folder| class(folder).is_some());
        let (mut files, mut labels) = (Vec::new(), Vec::new());
        for folder in &folders {
            let label = class(folder);
            if any && label.is_none() {
                let known = classes.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(problem(folder, format!("is no class of the real images: {known}")));
            }
            let inside = list(folder)?;
            labels.extend(std::iter::repeat_n(label, inside.len()));
            files.extend(inside);
        }
        if folders.is_empty() {
            labels = vec![None; entries.len()];
            files = entries;
        }
        let is_image = |file: &&PathBuf| {
            let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            !ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
        };
        if let Some(file) = files.iter().find(is_image) {
            return Err(problem(file, "is no image to judge: expected .png, .jpg or .jpeg".to_owned()));
        }
        let Some(first) = files.first() else {
            return Err(problem(
                path,
                "holds no images: expected PNG or JPEG files, or class folders of them".to_owned(),
            ));
        };
        let shape = read(first)?.shape();
        Ok(Self { files, labels, shape })
    }

    /// Whether a file is compressed in a way that changes its pixels.
    #[must_use]
    pub fn has_jpeg(&self) -> bool {
        self.files.iter().any(|file| file.extension().is_some_and(|ending| !ending.eq_ignore_ascii_case("png")))
    }
}

impl ImageSet for FolderImages {
    fn shape(&self) -> ImageShape {
        self.shape
    }

    fn images(&self) -> usize {
        self.files.len()
    }

    fn label(&self, image: usize) -> Option<usize> {
        self.labels.get(image).copied().flatten()
    }

    fn pixels(&mut self, first: usize, count: usize) -> Result<Pixels> {
        let files = self.files.iter().skip(first).take(count).collect::<Vec<_>>();
        let read = |file: &&PathBuf| {
            let picture = read(file)?;
            if picture.shape() != self.shape {
                let told =
                    format!("is {}, but {} is {}", size(picture.shape()), self.files[0].display(), size(self.shape));
                return Err(problem(file, format!("{told}: all images must have one size")));
            }
            Ok(picture.into_planes())
        };
        let planes = files.par_iter().map(read).collect::<Result<Vec<_>>>()?;
        pixels(self.shape, planes.concat())
    }
}

fn size(shape: ImageShape) -> String {
    let ImageShape { channels, height, width } = shape;
    format!("{channels} x {height} x {width}")
}

fn read(file: &Path) -> Result<Picture> {
    let bytes = std::fs::read(file).map_err(|error| problem(file, error.to_string()))?;
    Picture::decode(&bytes).map_err(|error| problem(file, error))
}

/// The entries of a folder in the order of their names, without hidden ones.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| problem(folder, error.to_string());
    let entries = std::fs::read_dir(folder).map_err(failed)?.collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    let shown = entries.iter().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<_> = shown.map(std::fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

fn problem(path: &Path, problem: String) -> EvalError {
    EvalError::File { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::encode_png;

    fn write(path: &Path, shape: ImageShape, level: u8) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, encode_png(shape, vec![level; shape.len()], 0).unwrap()).unwrap();
    }

    const GREY: ImageShape = ImageShape { channels: 1, height: 4, width: 3 };

    #[test]
    fn flat_folders_have_no_labels_and_class_folders_do() {
        let folder = tempfile::tempdir().unwrap();
        let flat = folder.path().join("flat");
        write(&flat.join("b.png"), GREY, 7);
        write(&flat.join("a.png"), GREY, 5);
        let mut found = FolderImages::open(&flat, &["cat".into()]).unwrap();
        assert_eq!((found.images(), found.shape(), found.label(0)), (2, GREY, None));
        let first = found.pixels(0, 2).unwrap().images.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        assert_eq!((first[0], first[12]), (5, 7));
        let sorted = folder.path().join("sorted");
        write(&sorted.join("dog/1.png"), GREY, 1);
        write(&sorted.join("cat/1.png"), GREY, 1);
        write(&sorted.join("cat/2.png"), GREY, 1);
        let found = FolderImages::open(&sorted, &["dog".into(), "cat".into()]).unwrap();
        assert_eq!([0, 1, 2].map(|image| found.label(image)), [Some(1), Some(1), Some(0)]);
        assert!(!found.has_jpeg());
        let error = FolderImages::open(&sorted, &["cat".into()]).unwrap_err().to_string();
        assert!(error.ends_with("dog: is no class of the real images: cat"), "{error}");
        for others in [vec![], vec!["cow".into()]] {
            assert_eq!(FolderImages::open(&sorted, &others).unwrap().label(0), None);
        }
    }

    #[test]
    fn what_differs_or_is_no_image_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| FolderImages::open(&folder.path().join(name), &[]);
        write(&folder.path().join("x/a.png"), GREY, 5);
        write(&folder.path().join("x/b.png"), ImageShape { height: 5, ..GREY }, 5);
        let error = open("x").unwrap().pixels(0, 2).unwrap_err().to_string();
        assert!(error.contains("b.png: is 1 x 5 x 3, but") && error.contains("a.png is 1 x 4 x 3"), "{error}");
        std::fs::write(folder.path().join("x/c.txt"), "hello").unwrap();
        assert!(open("x").unwrap_err().to_string().contains("c.txt: is no image to judge"));
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        assert!(open("empty").unwrap_err().to_string().contains("holds no images"));
        assert!(open("absent").unwrap_err().to_string().contains("absent"));
        write(&folder.path().join("y/cat/a.png"), GREY, 5);
        write(&folder.path().join("y/b.png"), GREY, 5);
        assert!(open("y").unwrap_err().to_string().contains("b.png: lies beside class folders"));
        std::fs::create_dir(folder.path().join("z")).unwrap();
        std::fs::write(folder.path().join("z/a.png"), "no picture").unwrap();
        assert!(open("z").unwrap_err().to_string().contains("a.png"));
    }
}
