//! Where training and test images come from.

use std::fmt;
use std::path::{Path, PathBuf};

use drifting_spec::ImageShape;
use serde::{Deserialize, Serialize};

use super::{DataError, Dataset, Embedded, Result, folder, idx};

/// A source of labelled images, as the table `data` of a configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Keys", into = "Keys")]
pub enum DataSource {
    /// Images that come with the program: `embedded = "fashion-mnist"`.
    Embedded(Embedded),
    /// A folder: `path = "..."`.
    Path(PathSource),
}

/// A folder of idx files or of class folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathSource {
    /// The folder.
    pub path: PathBuf,
    /// What is in it.
    pub kind: Kind,
    /// What to do with files that cannot be decoded; idx files are always refused.
    pub on_bad: OnBad,
    /// Class folders of test images, for `kind = "folder"`; idx folders bring their own.
    pub test_path: Option<PathBuf>,
}

/// What a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Whichever of the two is there.
    #[default]
    Auto,
    /// idx files under the standard names.
    Idx,
    /// One folder of images for each class.
    Folder,
}

/// What to do with image files that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBad {
    /// Leave them out and report them.
    Skip,
    /// Stop before training, naming them.
    #[default]
    Refuse,
}

/// A file that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.problem)
    }
}

/// What was read from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The source in words.
    pub source: String,
    /// Images read.
    pub images: usize,
    /// Classes.
    pub classes: usize,
    /// Files that were left out.
    pub skipped: Vec<Skipped>,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} images of {} classes", self.source, self.images, self.classes)?;
        match self.skipped.len() {
            0 => Ok(()),
            skipped => write!(formatter, ", {skipped} files left out"),
        }
    }
}

/// The keys of the table `data`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    #[serde(skip_serializing_if = "Option::is_none")]
    embedded: Option<Embedded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_bad: Option<OnBad>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_path: Option<PathBuf>,
}

impl TryFrom<Keys> for DataSource {
    type Error = DataError;

    fn try_from(keys: Keys) -> Result<Self> {
        let setting = |key, problem: &str| DataError::Setting { key, problem: problem.into() };
        let Keys { embedded, path, kind, on_bad, test_path } = keys;
        let Some(path) = path else {
            return match (kind, on_bad, test_path) {
                (None, None, None) => Ok(Self::Embedded(embedded.unwrap_or_default())),
                (Some(_), ..) => Err(setting("data.kind", "only goes with data.path")),
                (_, Some(_), _) => Err(setting("data.on_bad", "only goes with data.path")),
                (.., Some(_)) => Err(setting("data.test_path", "only goes with data.path")),
            };
        };
        if embedded.is_some() {
            return Err(setting("data.embedded", "cannot be set together with data.path: give one of them"));
        }
        let (kind, on_bad) = (kind.unwrap_or_default(), on_bad.unwrap_or_default());
        if kind == Kind::Idx && test_path.is_some() {
            return Err(setting("data.test_path", "does not go with kind = \"idx\": its test images are in data.path"));
        }
        Ok(Self::Path(PathSource { path, kind, on_bad, test_path }))
    }
}

impl From<DataSource> for Keys {
    fn from(source: DataSource) -> Self {
        match source {
            DataSource::Embedded(embedded) => Self { embedded: Some(embedded), ..Self::default() },
            DataSource::Path(PathSource { path, kind, on_bad, test_path }) => {
                Self { embedded: None, path: Some(path), kind: Some(kind), on_bad: Some(on_bad), test_path }
            }
        }
    }
}

impl Default for DataSource {
    fn default() -> Self {
        Self::Embedded(Embedded::default())
    }
}

impl DataSource {
    /// The folder `path`, whatever it holds; files that cannot be decoded are refused.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::Path(PathSource { path: path.into(), ..PathSource::default() })
    }

    /// Reads the training images.
    ///
    /// # Errors
    /// A folder or file that is missing or broken, images of another shape than `shape` (class folders are resized),
    /// a class without images; the message names the file.
    pub fn open(&self, shape: ImageShape) -> Result<(Dataset, Report)> {
        match self {
            Self::Embedded(embedded) => open_embedded(*embedded, shape, false),
            Self::Path(source) => match source.resolve()? {
                Kind::Folder => {
                    let classes = folder_classes(&source.path)?;
                    source.open_folder(&source.path, classes, shape)
                }
                _ => {
                    let (images, labels) = idx::read_folder(&source.path, false)?;
                    let classes = idx::classes(&source.path, &labels)?;
                    let data = idx::dataset((images, labels), classes, shape, &source.path)?;
                    Ok(reported(data, source.path.display().to_string(), Vec::new()))
                }
            },
        }
    }

    /// Reads the test images that belong to `train`; `None` when the source has none.
    ///
    /// # Errors
    /// As [`open`](Self::open), and class folders other than those of the training images.
    pub fn open_test(&self, train: &Dataset) -> Result<Option<(Dataset, Report)>> {
        let (shape, classes) = (train.shape(), train.classes().to_vec());
        match self {
            Self::Embedded(embedded) => open_embedded(*embedded, shape, true).map(Some),
            Self::Path(source) => match (source.resolve()?, &source.test_path) {
                (Kind::Folder, None) => Ok(None),
                (Kind::Folder, Some(path)) => {
                    let found = folder_classes(path)?;
                    if found != classes {
                        let problem = format!("has the classes {found:?}, expected those of training, {classes:?}");
                        return Err(DataError::file(path, problem));
                    }
                    source.open_folder(path, classes, shape).map(Some)
                }
                _ if !idx::is_present(&source.path, true) => Ok(None),
                _ => {
                    let data = idx::dataset(idx::read_folder(&source.path, true)?, classes, shape, &source.path)?;
                    Ok(Some(reported(data, format!("{} (test)", source.path.display()), Vec::new())))
                }
            },
        }
    }
}

impl PathSource {
    /// What the folder holds, if that was left open.
    fn resolve(&self) -> Result<Kind> {
        if !self.path.is_dir() {
            return Err(DataError::file(&self.path, "is no folder"));
        }
        if self.kind != Kind::Auto {
            return Ok(self.kind);
        }
        if idx::is_present(&self.path, false) {
            return Ok(Kind::Idx);
        }
        if folder::class_folders(&self.path)?.is_empty() {
            let expected = "expected train-images-idx3-ubyte(.gz) and its companions, or one folder of images a class";
            return Err(DataError::file(&self.path, format!("holds no images: {expected}")));
        }
        Ok(Kind::Folder)
    }

    fn open_folder(&self, path: &Path, classes: Vec<String>, shape: ImageShape) -> Result<(Dataset, Report)> {
        let (data, skipped) = folder::read(path, classes, shape, self.on_bad)?;
        Ok(reported(data, path.display().to_string(), skipped))
    }
}

fn folder_classes(path: &Path) -> Result<Vec<String>> {
    let folders = folder::class_folders(path)?;
    let name = |folder: &PathBuf| {
        let name = folder.file_name().and_then(|name| name.to_str());
        name.map(String::from).ok_or_else(|| DataError::file(folder, "has a name that is not UTF-8"))
    };
    let classes = folders.iter().map(name).collect::<Result<Vec<_>>>()?;
    if classes.is_empty() {
        return Err(DataError::file(path, "holds no class folders: put the images of each class into a folder"));
    }
    Ok(classes)
}

fn open_embedded(embedded: Embedded, shape: ImageShape, test: bool) -> Result<(Dataset, Report)> {
    let name = format!("embedded {}{}", embedded.name(), if test { " (test)" } else { "" });
    let data = idx::dataset(embedded.read(test)?, embedded.classes(), shape, Path::new(&name))?;
    Ok(reported(data, name, Vec::new()))
}

fn reported(data: Dataset, source: String, skipped: Vec<Skipped>) -> (Dataset, Report) {
    let report = Report { source, images: data.len(), classes: data.classes().len(), skipped };
    (data, report)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FASHION: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };

    #[test]
    fn the_embedded_images_are_balanced() {
        let source = DataSource::default();
        let (train, report) = source.open(FASHION).unwrap();
        assert_eq!(report.to_string(), "embedded fashion-mnist: 5000 images of 10 classes");
        let (test, _) = source.open_test(&train).unwrap().unwrap();
        for class in 0..10 {
            assert_eq!((train.of_class(class).len(), test.of_class(class).len()), (500, 100));
        }
        assert_eq!((train.classes()[0].as_str(), train.classes()[9].as_str()), ("T-shirt/top", "Ankle boot"));
        let error = source.open(ImageShape { channels: 3, ..FASHION }).unwrap_err().to_string();
        assert!(error.contains("images are 1 x 28 x 28, but the generator is set to 3 x 28 x 28"), "{error}");
    }

    #[test]
    fn the_embedded_folder_reads_as_idx_files() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/fashion-mnist");
        let source = DataSource::path(path);
        let (train, _) = source.open(FASHION).unwrap();
        let (embedded, _) = DataSource::default().open(FASHION).unwrap();
        let everything: Vec<usize> = (0..5000).step_by(97).collect();
        assert_eq!(train.images(&everything), embedded.images(&everything));
        assert_eq!(source.open_test(&train).unwrap().unwrap().0.len(), 1000);
    }

    #[test]
    fn class_folders_are_found_with_their_test_images() {
        let folder = tempfile::tempdir().unwrap();
        for (part, class) in [("train", "b"), ("train", "a"), ("test", "a")] {
            let class = folder.path().join(part).join(class);
            fs::create_dir_all(&class).unwrap();
            image::GrayImage::new(40, 30).save(class.join("0.png")).unwrap();
        }
        let test_path = Some(folder.path().join("test"));
        let source = PathSource { path: folder.path().join("train"), test_path, ..PathSource::default() };
        let (train, _) = DataSource::Path(source.clone()).open(FASHION).unwrap();
        assert_eq!(train.classes(), ["a", "b"]);
        let error = DataSource::Path(source.clone()).open_test(&train).unwrap_err().to_string();
        assert!(error.contains(r#"has the classes ["a"], expected those of training, ["a", "b"]"#), "{error}");
        let alone = DataSource::Path(PathSource { test_path: None, ..source });
        assert!(alone.open_test(&train).unwrap().is_none());
    }

    #[test]
    fn folders_without_images_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let message = |kind| {
            let source = PathSource { path: folder.path().into(), kind, ..PathSource::default() };
            DataSource::Path(source).open(FASHION).unwrap_err().to_string()
        };
        assert!(message(Kind::Auto).contains("holds no images: expected train-images-idx3-ubyte"));
        assert!(message(Kind::Folder).contains("holds no class folders"));
        assert!(message(Kind::Idx).contains("holds no train-images-idx3-ubyte"));
        let missing = DataSource::path(folder.path().join("nowhere")).open(FASHION).unwrap_err().to_string();
        assert!(missing.ends_with("nowhere: is no folder"), "{missing}");
    }

    #[test]
    fn settings_are_checked_and_come_back() {
        let parse = |text: &str| toml::from_str::<DataSource>(text).map_err(|error| error.message().to_owned());
        assert_eq!(parse(""), Ok(DataSource::default()));
        let text = "path = \"x\"\nkind = \"folder\"\non_bad = \"skip\"\ntest_path = \"y\"\n";
        let source = parse(text).unwrap();
        assert_eq!(toml::to_string(&source).unwrap(), text);
        assert_eq!(toml::to_string(&DataSource::default()).unwrap(), "embedded = \"fashion-mnist\"\n");
        let both = parse("path = \"x\"\nembedded = \"fashion-mnist\"").unwrap_err();
        assert_eq!(both, "data.embedded: cannot be set together with data.path: give one of them");
        assert_eq!(parse("kind = \"idx\"").unwrap_err(), "data.kind: only goes with data.path");
        assert!(parse("paht = \"x\"").unwrap_err().contains("unknown field `paht`"));
    }
}
