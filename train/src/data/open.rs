//! From the settings of a source to its images.

use std::path::Path;
use std::sync::Arc;

use drifting_spec::ImageShape;

use super::collect::collect;
use super::sources::{ClassFolders, ParquetFiles, Source, TarFiles, TensorShards, files, is_cifar10, read_cifar10};
use super::{
    Augment, Crop, DataError, DataSource, Dataset, Embedded, Kind, PathSource, Report, Result, Skipped, folder, idx,
};

/// Class folders are kept in memory up to this many bytes unless the settings say otherwise.
const IN_MEMORY: usize = 2 << 30;

impl DataSource {
    /// Reads all training images into memory.
    ///
    /// # Errors
    /// A folder or file that is missing or broken, idx and CIFAR-10 images of another shape than `shape` (others are
    /// fitted to it), latents, a class without images; the message names the file.
    pub fn open(&self, shape: ImageShape) -> Result<(Dataset, Report)> {
        match self {
            Self::Embedded(embedded) => open_embedded(*embedded, Some(shape), false),
            Self::Path(source) => source.dataset(&Part::train(source)?, Some(shape)),
        }
    }

    /// Reads the test images that belong to `train`; `None` when the source has none.
    ///
    /// # Errors
    /// As [`open`](Self::open), and other classes than those of the training images.
    pub fn open_test(&self, train: &Dataset) -> Result<Option<(Dataset, Report)>> {
        self.open_test_of(train.shape(), train.classes())
    }

    /// As [`open_test`](Self::open_test) for training images that are read one at a time.
    ///
    /// # Errors
    /// As [`open_test`](Self::open_test).
    pub fn open_test_of(&self, shape: ImageShape, classes: &[String]) -> Result<Option<(Dataset, Report)>> {
        match self {
            Self::Embedded(embedded) => open_embedded(*embedded, Some(shape), true).map(Some),
            Self::Path(source) => {
                let Some(part) = Part::test(source)? else { return Ok(None) };
                let (data, report) = source.dataset(&part, Some(shape))?;
                part.check_classes(data.classes(), classes)?;
                Ok(Some((data, report)))
            }
        }
    }

    /// Opens the training images to read them one at a time: in memory where that is small and `augment` does not crop,
    /// otherwise from disk as they are drawn.
    ///
    /// # Errors
    /// As [`open`](Self::open), but images that can only be read when they are drawn are not looked at.
    pub fn open_source(&self, shape: ImageShape, augment: &Augment) -> Result<(Arc<dyn Source>, Report)> {
        // Images are resized only where the settings ask for a crop.
        let exact = (augment.crop == Crop::Fit).then_some(shape);
        match self {
            Self::Embedded(embedded) => Ok(shared(open_embedded(*embedded, exact, false)?)),
            Self::Path(source) => source.open(&Part::train(source)?, shape, augment),
        }
    }

    /// As [`open_source`](Self::open_source) for the test images that belong to training images of these classes; `None`
    /// when the source has none.
    ///
    /// # Errors
    /// As [`open_source`](Self::open_source), and other classes than those of the training images.
    pub fn open_test_source(
        &self,
        shape: ImageShape,
        augment: &Augment,
        classes: &[String],
    ) -> Result<Option<(Arc<dyn Source>, Report)>> {
        let exact = (augment.crop == Crop::Fit).then_some(shape);
        match self {
            Self::Embedded(embedded) => Ok(Some(shared(open_embedded(*embedded, exact, true)?))),
            Self::Path(source) => {
                let Some(part) = Part::test(source)? else { return Ok(None) };
                let (test, report) = source.open(&part, shape, augment)?;
                part.check_classes(test.classes(), classes)?;
                Ok(Some((test, report)))
            }
        }
    }
}

fn shared((data, report): (Dataset, Report)) -> (Arc<dyn Source>, Report) {
    (Arc::new(data), report)
}

/// The training or the test images of a path.
struct Part<'a> {
    path: &'a Path,
    files: &'a str,
    kind: Kind,
    test: bool,
}

impl<'a> Part<'a> {
    fn train(source: &'a PathSource) -> Result<Self> {
        let kind = source.resolve()?;
        Ok(Self { path: &source.path, files: &source.files, kind, test: false })
    }

    /// `None` when there are no test images.
    fn test(source: &'a PathSource) -> Result<Option<Self>> {
        let Self { kind, .. } = Self::train(source)?;
        let path = source.test_path.as_deref();
        let path = path.or_else(|| (kind.brings_test() || !source.test_files.is_empty()).then_some(&source.path));
        let there = |path: &&Path| match kind {
            Kind::Idx => idx::is_present(path, true),
            Kind::Cifar10 => is_cifar10(path, true),
            _ => true,
        };
        let part = |path| Self { path, files: &source.test_files, kind, test: true };
        Ok(path.filter(there).map(part))
    }

    /// Holds the classes of test images against those of the training images; only folders are sure to have names.
    fn check_classes(&self, found: &[String], training: &[String]) -> Result<()> {
        if found.len() == training.len() && (self.kind != Kind::Folder || found == training) {
            return Ok(());
        }
        let problem = format!("has the classes {found:?}, expected those of training, {training:?}");
        Err(DataError::file(self.path, problem))
    }
}

impl PathSource {
    /// What the path holds, if that was left open.
    fn resolve(&self) -> Result<Kind> {
        if !self.path.exists() {
            return Err(DataError::file(&self.path, "is not there"));
        }
        if self.kind != Kind::Auto {
            return Ok(self.kind);
        }
        if idx::is_present(&self.path, false) {
            return Ok(Kind::Idx);
        }
        if is_cifar10(&self.path, false) {
            return Ok(Kind::Cifar10);
        }
        for (kind, extension) in [(Kind::Shards, "safetensors"), (Kind::Webdataset, "tar"), (Kind::Parquet, "parquet")]
        {
            let is_file = self.path.extension().is_some_and(|found| found == extension) && self.path.is_file();
            if is_file || self.path.is_dir() && files(&self.path, &self.files, &[extension]).is_ok() {
                return Ok(kind);
            }
        }
        if !self.path.is_dir() || !folder::is_present(&self.path) {
            let expected = "expected train-images-idx3-ubyte(.gz) and its companions, data_batch_1.bin, .safetensors, \
                            .tar or .parquet files, one folder of images a class, or images";
            return Err(DataError::file(&self.path, format!("holds no images: {expected}")));
        }
        Ok(Kind::Folder)
    }

    /// Reads a part into memory.
    fn dataset(&self, part: &Part<'_>, shape: Option<ImageShape>) -> Result<(Dataset, Report)> {
        let Part { path, kind, test, .. } = *part;
        let name = format!("{}{}", path.display(), if test && kind.brings_test() { " (test)" } else { "" });
        match kind {
            Kind::Idx => {
                let (images, labels) = idx::read_folder(path, test)?;
                // Test labels may lack a class: the training labels say which there are.
                let classes = match test {
                    true => idx::classes(path, &idx::read_folder(path, false)?.1)?,
                    false => idx::classes(path, &labels)?,
                };
                Ok(reported(idx::dataset((images, labels), classes, shape, path)?, name, Vec::new()))
            }
            Kind::Cifar10 => {
                let data = read_cifar10(path, test, self.verify)?;
                match shape.filter(|shape| *shape != data.shape()) {
                    Some(ImageShape { channels, height, width }) => {
                        let problem = format!(
                            "images are 3 x 32 x 32, but the generator is set to {channels} x {height} x {width}"
                        );
                        Err(DataError::file(path, problem))
                    }
                    None => Ok(reported(data, name, Vec::new())),
                }
            }
            _ => {
                let source = self.source(part)?;
                let shape = shape.or(source.shape()).unwrap_or(ImageShape { channels: 3, height: 0, width: 0 });
                let (data, skipped) = collect(source.as_ref(), shape, self.on_bad, path)?;
                Ok(reported(data, name, skipped))
            }
        }
    }

    /// Opens a part as [`DataSource::open_source`] says.
    fn open(&self, part: &Part<'_>, shape: ImageShape, augment: &Augment) -> Result<(Arc<dyn Source>, Report)> {
        if part.kind.brings_test() {
            return Ok(shared(self.dataset(part, (augment.crop == Crop::Fit).then_some(shape))?));
        }
        let opened = self.source(part)?;
        let small = opened.len().saturating_mul(shape.len()) <= IN_MEMORY;
        let in_memory = part.kind == Kind::Folder && augment.crop == Crop::Fit && small;
        if !self.lazy.unwrap_or(!in_memory) {
            let (data, skipped) = collect(opened.as_ref(), shape, self.on_bad, part.path)?;
            return Ok(shared(reported(data, part.path.display().to_string(), skipped)));
        }
        let (images, classes) = (opened.len(), opened.classes().len());
        let report = Report { source: part.path.display().to_string(), images, classes, skipped: Vec::new() };
        Ok((opened.into(), report))
    }

    /// Opens a part whose images are read one at a time.
    fn source(&self, part: &Part<'_>) -> Result<Box<dyn Source>> {
        let Part { path, files, kind, .. } = *part;
        Ok(match kind {
            Kind::Shards => Box::new(TensorShards::open(path, files)?),
            Kind::Webdataset => Box::new(TarFiles::open(path, files)?),
            Kind::Parquet => Box::new(ParquetFiles::open(path, files)?),
            _ => Box::new(ClassFolders::open(path)?),
        })
    }
}

fn open_embedded(embedded: Embedded, shape: Option<ImageShape>, test: bool) -> Result<(Dataset, Report)> {
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

    use super::super::sources::testing::png;
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
    fn kinds_are_recognised_and_read_in_memory_or_lazily() {
        let folder = tempfile::tempdir().unwrap();
        let tar = |name: &str, level: u8| {
            let mut builder = tar::Builder::new(Vec::new());
            for (member, bytes) in [("0.png", png(level)), ("0.cls", b"0".to_vec())] {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, member, bytes.as_slice()).unwrap();
            }
            fs::write(folder.path().join(name), builder.into_inner().unwrap()).unwrap();
        };
        tar("train-0.tar", 7);
        tar("train-1.tar", 8);
        tar("val-0.tar", 9);
        let (files, test_files) = ("train".to_owned(), "val".to_owned());
        let data = PathSource { path: folder.path().into(), files, test_files, ..PathSource::default() };
        assert_eq!(data.resolve().unwrap(), Kind::Webdataset);
        let shape = ImageShape { height: 4, width: 4, ..FASHION };
        for lazy in [Some(false), Some(true), None] {
            let data = DataSource::Path(PathSource { lazy, ..data.clone() });
            let (source, report) = data.open_source(shape, &Augment::default()).unwrap();
            assert_eq!((report.images, source.in_memory()), (2, lazy == Some(false)));
            let (train, _) = data.open(shape).unwrap();
            assert_eq!(train.picture(1).unwrap().planes(), [8; 16]);
            let (test, _) = data.open_test(&train).unwrap().unwrap();
            assert_eq!((test.len(), test.picture(0).unwrap().planes()), (1, &[9; 16][..]));
        }
        let single = DataSource::path(folder.path().join("val-0.tar"));
        assert_eq!(single.open(shape).unwrap().0.len(), 1);
        let records: Vec<u8> = (0..10u8).flat_map(|label| [vec![label], vec![label * 2; 3072]].concat()).collect();
        fs::write(folder.path().join("data_batch_1.bin"), &records).unwrap();
        let cifar = DataSource::path(folder.path());
        let colour = ImageShape { channels: 3, height: 32, width: 32 };
        let (train, report) = cifar.open(colour).unwrap();
        assert_eq!((report.classes, train.classes()[3].as_str()), (10, "cat"));
        assert!(cifar.open_test(&train).unwrap().is_none());
        let error = cifar.open(shape).unwrap_err().to_string();
        assert!(error.ends_with("images are 3 x 32 x 32, but the generator is set to 1 x 4 x 4"), "{error}");
        let crop = Augment { crop: Crop::Adm, ..Augment::default() };
        assert!(cifar.open_source(shape, &crop).is_ok() && cifar.open_source(shape, &Augment::default()).is_err());
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
        assert!(missing.ends_with("nowhere: is not there"), "{missing}");
    }
}
