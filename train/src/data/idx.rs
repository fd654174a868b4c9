//! The idx format of MNIST and its relatives: a magic number, big-endian sizes, bytes; often gzipped.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use drifting_spec::ImageShape;
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::dataset::hex;
use super::embedded::{FASHION_MNIST_CLASSES, FASHION_MNIST_LABELS};
use super::{DataError, Dataset, Result};

/// A decoded idx file of bytes.
#[derive(Debug)]
pub(super) struct Idx {
    pub(super) dims: Vec<usize>,
    pub(super) data: Vec<u8>,
}

/// Decodes an idx file of bytes with `rank` sizes, gzipped or not; `path` is for messages.
pub(super) fn decode(bytes: impl Read, rank: u8, path: &Path) -> Result<Idx> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let mut bytes = BufReader::new(bytes);
    let mut start = Vec::new();
    bytes.by_ref().take(2).read_to_end(&mut start).map_err(io)?;
    let gzipped = start == [0x1f, 0x8b];
    let whole = start.as_slice().chain(bytes);
    let mut decoded: Box<dyn Read + '_> = if gzipped { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };

    let header = 4 + 4 * usize::from(rank);
    let mut head = Vec::new();
    decoded.by_ref().take(header as u64).read_to_end(&mut head).map_err(io)?;
    if head.len() < header {
        return Err(DataError::file(path, format!("is cut off after {} bytes, in its header", head.len())));
    }
    let expected = [0, 0, 8, rank];
    if head[..4] != expected {
        let (found, expected) = (hex(&head[..4]), hex(&expected));
        return Err(DataError::file(path, format!("begins with 0x{found}, expected 0x{expected} (idx, bytes)")));
    }
    let (sizes, _) = head[4..].as_chunks::<4>();
    let dims: Vec<usize> = sizes.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
    let Some(length) = dims.iter().try_fold(1usize, |length, &size| length.checked_mul(size)) else {
        return Err(DataError::file(path, format!("announces sizes {dims:?}, which no file can hold")));
    };
    let mut data = Vec::new();
    decoded.take((length as u64).saturating_add(1)).read_to_end(&mut data).map_err(io)?;
    if data.len() < length {
        let problem = format!("is cut off: {} bytes for sizes {dims:?}, expected {length}", data.len());
        return Err(DataError::file(path, problem));
    }
    if data.len() > length {
        return Err(DataError::file(path, format!("holds more than the {length} bytes of its sizes {dims:?}")));
    }
    Ok(Idx { dims, data })
}

/// The data set of images `[n, height, width]` and labels `[n]` with these classes, which must be of `shape` unless that is
/// left open. `path` is for messages.
pub(super) fn dataset(
    (images, labels): (Idx, Idx),
    classes: Vec<String>,
    shape: Option<ImageShape>,
    path: &Path,
) -> Result<Dataset> {
    let (&[count, height, width], &[labelled]) = (images.dims.as_slice(), labels.dims.as_slice()) else {
        return Err(DataError::file(path, "holds no idx images and labels"));
    };
    if count != labelled {
        return Err(DataError::file(path, format!("holds {count} images, but {labelled} labels")));
    }
    let found = ImageShape { channels: 1, height, width };
    if let Some(ImageShape { channels, height: rows, width: columns }) = shape.filter(|shape| *shape != found) {
        let problem =
            format!("images are 1 x {height} x {width}, but the generator is set to {channels} x {rows} x {columns}");
        return Err(DataError::file(path, problem));
    }
    let labels = labels.data.into_iter().map(usize::from).collect();
    Dataset::new(found, images.data, labels, classes).map_err(|error| DataError::file(path, error.to_string()))
}

/// The images and labels of a folder with the standard file names.
pub(super) fn read_folder(folder: &Path, test: bool) -> Result<(Idx, Idx)> {
    let part = if test { "t10k" } else { "train" };
    let read = |kind: &str, rank: u8| {
        let Some(path) = find(folder, part, kind, rank) else {
            let problem = format!("holds no {part}-{kind}-idx{rank}-ubyte or {part}-{kind}-idx{rank}-ubyte.gz");
            return Err(DataError::file(folder, problem));
        };
        let file = File::open(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        decode(file, rank, &path)
    };
    Ok((read("images", 3)?, read("labels", 1)?))
}

/// Whether the folder has images of this part under a standard name.
pub(super) fn is_present(folder: &Path, test: bool) -> bool {
    find(folder, if test { "t10k" } else { "train" }, "images", 3).is_some()
}

fn find(folder: &Path, part: &str, kind: &str, rank: u8) -> Option<PathBuf> {
    let separators = ["-", "."].into_iter();
    let names = separators
        .flat_map(|separator| ["", ".gz"].map(|suffix| format!("{part}-{kind}{separator}idx{rank}-ubyte{suffix}")));
    names.map(|name| folder.join(name)).find(|path| path.is_file())
}

/// The classes of a folder: the lines of its `classes.txt`, else the names of Fashion-MNIST if these are its labels,
/// else numbers.
pub(super) fn classes(folder: &Path, labels: &Idx) -> Result<Vec<String>> {
    let path = folder.join("classes.txt");
    if path.is_file() {
        let text = fs::read_to_string(&path).map_err(|source| DataError::Io { path, source })?;
        return Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect());
    }
    if hex(&Sha256::digest(&labels.data)) == FASHION_MNIST_LABELS {
        return Ok(FASHION_MNIST_CLASSES.map(String::from).into());
    }
    let count = labels.data.iter().max().map_or(0, |&label| usize::from(label) + 1);
    Ok((0..count).map(|class| class.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    impl Idx {
        pub(in super::super) fn encode(&self) -> Vec<u8> {
            let mut bytes = vec![0, 0, 8, self.dims.len() as u8];
            self.dims.iter().for_each(|&size| bytes.extend((size as u32).to_be_bytes()));
            bytes.extend(&self.data);
            bytes
        }
    }

    const SHAPE: ImageShape = ImageShape { channels: 1, height: 2, width: 2 };

    fn images() -> Idx {
        Idx { dims: vec![3, 2, 2], data: (0..12).collect() }
    }

    fn labels() -> Idx {
        Idx { dims: vec![3], data: vec![1, 0, 1] }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn problem(bytes: &[u8]) -> String {
        decode(bytes, 3, Path::new("x.idx")).unwrap_err().to_string()
    }

    #[test]
    fn plain_and_gzipped_files_are_the_same() {
        let bytes = images().encode();
        for bytes in [gzip(&bytes), bytes] {
            let found = decode(bytes.as_slice(), 3, Path::new("x")).unwrap();
            assert_eq!((found.dims, found.data), (vec![3, 2, 2], (0..12).collect()));
        }
    }

    #[test]
    fn broken_files_are_named_with_what_is_wrong() {
        let bytes = images().encode();
        assert_eq!(problem(&bytes[..7]), "x.idx: is cut off after 7 bytes, in its header");
        assert_eq!(problem(&[]), "x.idx: is cut off after 0 bytes, in its header");
        assert_eq!(problem(&bytes[..20]), "x.idx: is cut off: 4 bytes for sizes [3, 2, 2], expected 12");
        assert_eq!(problem(&[&bytes[..], &[0]].concat()), "x.idx: holds more than the 12 bytes of its sizes [3, 2, 2]");
        let labels = [labels().encode(), vec![0; 9]].concat();
        assert_eq!(problem(&labels), "x.idx: begins with 0x00000801, expected 0x00000803 (idx, bytes)");
        let zipped = gzip(&bytes);
        assert!(problem(&zipped[..zipped.len() - 9]).starts_with("x.idx: "));
        let huge = [&[0, 0, 8, 3][..], &[255; 12]].concat();
        assert!(problem(&huge).contains("which no file can hold"));
    }

    #[test]
    fn images_and_labels_must_fit_each_other_and_the_generator() {
        let path = Path::new("folder");
        let names = || vec!["a".to_owned(), "b".to_owned()];
        let data = dataset((images(), labels()), names(), Some(SHAPE), path).unwrap();
        assert_eq!((data.len(), data.of_class(0)), (3, &[1][..]));
        let fails =
            |images, labels, names, shape| dataset((images, labels), names, Some(shape), path).unwrap_err().to_string();
        let fewer = Idx { dims: vec![2], data: vec![0, 1] };
        assert_eq!(fails(images(), fewer, names(), SHAPE), "folder: holds 3 images, but 2 labels");
        let wide = ImageShape { width: 3, ..SHAPE };
        let expected = "folder: images are 1 x 2 x 2, but the generator is set to 1 x 2 x 3";
        assert_eq!(fails(images(), labels(), names(), wide), expected);
        let expected = "folder: data set: image 0 has label 1, but there are 1 classes";
        assert_eq!(fails(images(), labels(), vec!["a".into()], SHAPE), expected);
    }

    #[test]
    fn classes_come_from_a_file_or_are_numbered() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(classes(folder.path(), &labels()).unwrap(), ["0", "1"]);
        fs::write(folder.path().join("classes.txt"), "cat\n dog \n\n").unwrap();
        assert_eq!(classes(folder.path(), &labels()).unwrap(), ["cat", "dog"]);
    }

    #[test]
    fn both_standard_spellings_are_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train-images-idx3-ubyte.gz"), gzip(&images().encode())).unwrap();
        let error = read_folder(folder.path(), false).unwrap_err().to_string();
        assert!(error.contains("holds no train-labels-idx1-ubyte"), "{error}");
        fs::write(folder.path().join("train-labels.idx1-ubyte"), labels().encode()).unwrap();
        let (_, labels) = read_folder(folder.path(), false).unwrap();
        assert_eq!(labels.data, [1, 0, 1]);
        assert!(is_present(folder.path(), false) && !is_present(folder.path(), true));
    }
}
