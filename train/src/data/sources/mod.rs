//! Sources of labelled images that are read one at a time, so that they may be larger than memory.

mod cifar10;
mod folder;
mod parquet;
mod shard;
mod shards;
mod subset;
mod tar;

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use drifting_spec::ImageShape;
use sha2::{Digest, Sha256};

pub use self::cifar10::CIFAR10_CLASSES;
pub(super) use self::cifar10::{is_cifar10, read_cifar10};
pub use self::folder::ClassFolders;
pub use self::parquet::ParquetFiles;
pub(super) use self::shard::{LABELS, MIRRORED, ROWS};
pub use self::shards::{MANIFEST, PLAN, ShardEntry, ShardManifest, TensorShards};
pub use self::subset::Subset;
pub use self::tar::TarFiles;
use super::{DataError, Dataset, Picture, Result};

/// One image as a source holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Bytes, still of the picture's own size.
    Picture(Picture),
    /// Numbers that are used as they are, such as latents, of the source's shape.
    Numbers(Vec<f32>),
}

/// Labelled images by index; reading one does not depend on what was read before.
#[expect(clippy::len_without_is_empty, reason = "it never is")]
pub trait Source: Debug + Send + Sync {
    /// Number of images; never 0.
    fn len(&self) -> usize;

    /// Names of the classes.
    fn classes(&self) -> &[String];

    /// The class of an image, below the number of classes.
    fn label(&self, index: usize) -> usize;

    /// What messages call an image.
    fn name(&self, index: usize) -> String;

    /// Versions of each image: 2 where its mirror image is stored beside it, else 1.
    fn versions(&self) -> usize {
        1
    }

    /// The shape of every image; `None` where they may differ.
    fn shape(&self) -> Option<ImageShape>;

    /// Whether the images are in memory, decoded.
    fn in_memory(&self) -> bool {
        false
    }

    /// Reads an image in one of its versions.
    ///
    /// # Errors
    /// A file that cannot be read; [`DataError::Image`] where only this image is damaged.
    fn read(&self, index: usize, version: usize) -> Result<Item>;

    /// SHA-256 in hexadecimal over the labels and what identifies the images: their bytes where they are in memory, else
    /// the names and sizes of the files or members, or the checksums that a manifest states.
    fn sha256(&self) -> &str;
}

impl Source for Dataset {
    fn len(&self) -> usize {
        self.len()
    }

    fn classes(&self) -> &[String] {
        self.classes()
    }

    fn label(&self, index: usize) -> usize {
        self.labels().get(index).copied().unwrap_or_default()
    }

    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }

    fn shape(&self) -> Option<ImageShape> {
        Some(self.shape())
    }

    fn in_memory(&self) -> bool {
        true
    }

    fn read(&self, index: usize, _version: usize) -> Result<Item> {
        let picture = self.picture(index).ok_or_else(|| no_such_image(self, index))?;
        Ok(Item::Picture(picture))
    }

    fn sha256(&self) -> &str {
        self.sha256()
    }
}

/// The error of an index beyond the end.
fn no_such_image(source: &dyn Source, index: usize) -> DataError {
    DataError::Inconsistent(format!("image {index} was asked for, but there are {}", source.len()))
}

/// Reads `length` bytes of a file. The file is opened each time: a set may have more files than a process may hold open,
/// and a file that shrinks is an error instead of a crash, as it would be with mapped memory.
fn read_range(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() < length {
        let problem = format!("is cut off: {} bytes at {offset}, expected {length}", bytes.len());
        return Err(DataError::file(path, problem));
    }
    Ok(bytes)
}

/// The files of a source: the path itself, or those in the folder with one of these extensions whose names begin with
/// `prefix`, sorted.
pub(super) fn files(path: &Path, prefix: &str, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if extensions.contains(&extension) && name.starts_with(prefix) && !name.starts_with('.') && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.is_empty() {
        false => Ok(found),
        true => {
            let named = if prefix.is_empty() { String::new() } else { format!(" whose name begins with {prefix:?}") };
            Err(DataError::file(path, format!("holds no .{} file{named}", extensions.join(" or ."))))
        }
    }
}

/// Names of the classes: the lines of `classes.txt` in the folder, else what the source says, else numbers; held against
/// the labels.
fn class_names(path: &Path, stated: Option<Vec<String>>, labels: &[u32]) -> Result<Vec<String>> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let list = folder.join("classes.txt");
    let largest = labels.iter().max().map_or(0, |&label| label as usize);
    let classes = if list.is_file() {
        let text = fs::read_to_string(&list).map_err(|source| DataError::Io { path: list, source })?;
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
    } else if let Some(stated) = stated {
        stated
    } else if largest < labels.len() {
        (0..=largest).map(|class| class.to_string()).collect()
    } else {
        let problem = format!("holds label {largest}, but only {} images: some class has none", labels.len());
        return Err(DataError::file(path, problem));
    };
    if largest >= classes.len() {
        return Err(DataError::file(path, format!("holds label {largest}, but there are {} classes", classes.len())));
    }
    Ok(classes)
}

/// A checksum over things of varying length.
#[derive(Debug, Default)]
struct Checksum(Sha256);

impl Checksum {
    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.0.update(text);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn classes(&mut self, classes: &[String]) {
        self.number(classes.len() as u64);
        classes.iter().for_each(|class| self.text(class.as_bytes()));
    }

    fn hex(self) -> String {
        super::dataset::hex(&self.0.finalize())
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat, Luma};

    use super::*;

    /// A PNG of one grey level.
    pub(crate) fn png(level: u8) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let image = image::GrayImage::from_pixel(6, 4, Luma([level]));
        DynamicImage::ImageLuma8(image).write_to(&mut file, ImageFormat::Png).unwrap();
        file.into_inner()
    }

    /// The grey level and the label of every image of a source.
    pub(crate) fn levels(source: &dyn Source) -> Vec<(u8, usize)> {
        let level = |index| match source.read(index, 0).unwrap() {
            Item::Picture(picture) => picture.planes()[0],
            Item::Numbers(numbers) => numbers[0] as u8,
        };
        (0..source.len()).map(|index| (level(index), source.label(index))).collect()
    }

    /// Opens and reads every truncation and many single-byte changes of a file: nothing may panic.
    pub(crate) fn survives_damage(file: &[u8], path: &Path, open: &dyn Fn(&Path) -> Result<Box<dyn Source>>) -> usize {
        let mut refused = 0;
        let step = (file.len() / 150).max(1);
        let truncated = (0..file.len()).step_by(step).map(|length| file[..length].to_vec());
        let changed = (0..file.len()).step_by(step).map(|at| {
            let mut file = file.to_vec();
            file[at] ^= 0xa5;
            file
        });
        for file in truncated.chain(changed) {
            fs::write(path, file).unwrap();
            let read = |source: Box<dyn Source>| (0..source.len()).try_for_each(|i| source.read(i, 0).map(|_| ()));
            refused += usize::from(open(path).and_then(read).is_err());
        }
        refused
    }
}
