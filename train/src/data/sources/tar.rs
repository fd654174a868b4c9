//! WebDataset: tar files in which the members of a sample share the name up to the first dot.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use drifting_spec::ImageShape;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Checksum, Item, Source, class_names, files, read_range};
use crate::data::{DataError, Picture, Result};

const PICTURES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// Largest label file that is read.
const MAX_LABEL: u64 = 1 << 20;

/// One or many tar files of images, each with a label in `.cls` or `.json`.
#[derive(Debug)]
pub struct TarFiles {
    files: Vec<PathBuf>,
    /// File number and place of each image.
    samples: Vec<(u32, Sample)>,
    labels: Vec<u32>,
    classes: Vec<String>,
    sha256: String,
}

/// Where an image lies in its tar file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sample {
    key: String,
    offset: u64,
    length: u64,
    label: u32,
}

/// What is kept beside a tar file, so that it is walked through only once.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    size: u64,
    modified: u128,
    samples: Vec<Sample>,
}

impl TarFiles {
    /// Indexes the tar files of `path` (a file, or a folder of which those count whose names begin with `prefix`). The
    /// index of each is kept beside it, where that folder may be written.
    ///
    /// # Errors
    /// A file that is cut off or no tar file, an image without a label, a label that is no number.
    pub fn open(path: &Path, prefix: &str) -> Result<Self> {
        let files = files(path, prefix, &["tar"])?;
        let indices: Vec<Vec<Sample>> = files.par_iter().map(|file| cached_index(file)).collect::<Result<_>>()?;
        let numbered = indices.into_iter().enumerate();
        let samples: Vec<_> =
            numbered.flat_map(|(file, samples)| samples.into_iter().map(move |sample| (file as u32, sample))).collect();
        if samples.is_empty() {
            return Err(DataError::file(
                path,
                "holds no image: expected members NAME.jpg (or png, webp) with NAME.cls",
            ));
        }
        let labels: Vec<u32> = samples.iter().map(|(_, sample)| sample.label).collect();
        let classes = class_names(path, None, &labels)?;
        let mut checksum = Checksum::default();
        checksum.classes(&classes);
        for (file, Sample { key, offset, length, label }) in &samples {
            checksum.text(key.as_bytes());
            [u64::from(*file), *offset, *length, u64::from(*label)].into_iter().for_each(|part| checksum.number(part));
        }
        Ok(Self { files, samples, labels, classes, sha256: checksum.hex() })
    }
}

impl Source for TarFiles {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.labels.get(index).map_or(0, |&label| label as usize)
    }

    fn name(&self, index: usize) -> String {
        match self.samples.get(index) {
            Some((file, sample)) => format!("{}:{}", self.files[*file as usize].display(), sample.key),
            None => format!("image {index}"),
        }
    }

    fn shape(&self) -> Option<ImageShape> {
        None
    }

    fn read(&self, index: usize, _version: usize) -> Result<Item> {
        let Some((file, sample)) = self.samples.get(index) else { return Err(super::no_such_image(self, index)) };
        let bytes = read_range(&self.files[*file as usize], sample.offset, sample.length as usize)?;
        Picture::decode(&bytes).map(Item::Picture).map_err(|problem| DataError::image(self.name(index), problem))
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }
}

fn cached_index(path: &Path) -> Result<Vec<Sample>> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let about = fs::metadata(path).map_err(io)?;
    let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let (size, modified) = (about.len(), since.map_or(0, |since| since.as_nanos()));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".index.json");
    let beside = PathBuf::from(beside);
    let kept = fs::read(&beside).ok().and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
    if let Some(kept) = kept.filter(|kept| (kept.size, kept.modified) == (size, modified)) {
        return Ok(kept.samples);
    }
    let index = Index { size, modified, samples: index(path)? };
    // A folder that may not be written is no error: the tar file is walked through again next time.
    if let Ok(json) = serde_json::to_vec(&index) {
        let _ = drifting_models::weights::write_bytes(&beside, &json);
    }
    Ok(index.samples)
}

/// What is known of a sample while its members pass by.
#[derive(Default)]
struct Partial {
    place: Option<(u64, u64)>,
    label: Option<u32>,
}

/// Walks through the headers of a tar file.
fn index(path: &Path) -> Result<Vec<Sample>> {
    let io = |source| DataError::Io { path: path.to_owned(), source };
    let broken = |error: std::io::Error| DataError::file(path, format!("is no whole tar file: {error}"));
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut archive = tar::Archive::new(file);
    let mut order = Vec::new();
    let mut partial: BTreeMap<String, Partial> = BTreeMap::new();
    for entry in archive.entries_with_seek().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, length) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(DataError::file(path, format!("is cut off: {name} ends beyond the {size} bytes of the file")));
        }
        let Some((key, extension)) = split(&name) else { continue };
        let extension = extension.to_ascii_lowercase();
        let wanted = PICTURES.contains(&extension.as_str()) || extension == "cls" || extension == "json";
        if !wanted {
            continue;
        }
        let sample = partial.entry(key.to_owned()).or_insert_with(|| {
            order.push(key.to_owned());
            Partial::default()
        });
        if PICTURES.contains(&extension.as_str()) {
            sample.place = Some((offset, length));
        } else if length <= MAX_LABEL {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(broken)?;
            let found = if extension == "cls" { cls(&bytes) } else { json(&bytes) };
            sample.label = sample.label.or(found);
        }
    }
    let sample = |key: String| match partial.get(&key) {
        Some(Partial { place: Some((offset, length)), label: Some(label) }) => {
            Some(Ok(Sample { key, offset: *offset, length: *length, label: *label }))
        }
        Some(Partial { place: Some(_), label: None }) => {
            let problem = format!("{key} has no label: expected {key}.cls with a number, or \"label\" in {key}.json");
            Some(Err(DataError::file(path, problem)))
        }
        _ => None,
    };
    order.into_iter().filter_map(sample).collect()
}

/// Name and extension of a member: what is before and after the first dot of its last part. `None` for hidden ones.
fn split(name: &str) -> Option<(&str, &str)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = start + name[start..].find('.')?;
    (dot > start).then(|| (&name[..dot], &name[dot + 1..]))
}

fn cls(bytes: &[u8]) -> Option<u32> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

fn json(bytes: &[u8]) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let label = ["label", "cls", "class"].iter().find_map(|key| value.get(key)?.as_u64())?;
    u32::try_from(label).ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{levels, png, survives_damage};
    use super::*;

    fn tar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn two_samples() -> Vec<u8> {
        let members = [
            ("a/0.one.cls", b"9".to_vec()),
            ("a/0.cls", b" 1\n".to_vec()),
            ("a/0.png", png(10)),
            ("a/0.txt", b"a text".to_vec()),
            ("a/1.jpg", png(20)),
            ("a/1.json", br#"{"label": 0, "width": 6}"#.to_vec()),
        ];
        tar(&members)
    }

    #[test]
    fn samples_are_found_over_several_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train-1.tar"), tar(&[("x.png", png(30)), ("x.cls", b"2".to_vec())])).unwrap();
        fs::write(folder.path().join("train-0.tar"), two_samples()).unwrap();
        fs::write(folder.path().join("test-0.tar"), tar(&[("x.png", png(40)), ("x.cls", b"0".to_vec())])).unwrap();
        let source = TarFiles::open(folder.path(), "train").unwrap();
        assert_eq!(levels(&source), [(10, 1), (20, 0), (30, 2)]);
        assert_eq!(source.classes(), ["0", "1", "2"]);
        fs::write(folder.path().join("classes.txt"), "a\nb\n").unwrap();
        let error = TarFiles::open(folder.path(), "train").unwrap_err().to_string();
        assert!(error.ends_with("holds label 2, but there are 2 classes"), "{error}");
    }

    #[test]
    fn the_index_is_kept_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        fs::write(&path, two_samples()).unwrap();
        let first = TarFiles::open(&path, "").unwrap();
        let beside = folder.path().join("a.tar.index.json");
        let kept = fs::read_to_string(&beside).unwrap();
        fs::write(&beside, kept.replace("\"label\":1", "\"label\":0")).unwrap();
        assert_eq!(TarFiles::open(&path, "").unwrap().label(0), 0);
        fs::write(&path, tar(&[("x.png", png(40)), ("x.cls", b"0".to_vec())])).unwrap();
        assert_eq!(levels(&TarFiles::open(&path, "").unwrap()), [(40, 0)]);
        fs::write(&path, two_samples()).unwrap();
        fs::write(&beside, "{").unwrap();
        assert_eq!(TarFiles::open(&path, "").unwrap().sha256(), first.sha256());
    }

    #[test]
    fn damaged_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let open = |path: &Path| TarFiles::open(path, "").map(|source| Box::new(source) as Box<dyn Source>);
        assert!(survives_damage(&two_samples(), &path, &open) > 150);
        fs::write(&path, tar(&[("x.png", png(40))])).unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("x has no label: expected x.cls with a number"));
        fs::write(&path, tar(&[("x.cls", b"0".to_vec())])).unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("holds no image"));
        let empty = folder.path().join("empty");
        fs::create_dir(&empty).unwrap();
        assert!(open(&empty).unwrap_err().to_string().ends_with("holds no .tar file"));
    }
}
