//! A written model, read back without its weights.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use drifting_spec::PROFILE_KEY;
use sha2::{Digest, Sha256};

use crate::graph::{self, ALIGNMENT, GraphError};
use crate::proto::{self, DataLocation, ModelProto, Place, Skeleton, TensorProto};
use crate::{Error, Profile, Result};

/// A model in memory or on disk; its weights stay there.
#[derive(Debug)]
pub(crate) struct ModelFile<'a> {
    source: Source<'a>,
    skeleton: Skeleton,
    profile: Profile,
}

#[derive(Debug)]
enum Source<'a> {
    Bytes(&'a [u8]),
    Path(PathBuf),
}

impl<'a> ModelFile<'a> {
    /// Reads the model at `path`.
    ///
    /// # Errors
    /// A file that cannot be read, is no ONNX model, or has a profile that this version does not know.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::new(Source::Path(path.to_owned()))
    }

    /// Reads a model in memory.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Result<Self> {
        Self::new(Source::Bytes(bytes))
    }

    fn new(source: Source<'a>) -> Result<Self> {
        let found = match &source {
            Source::Bytes(bytes) => proto::read(&mut Cursor::new(bytes)),
            Source::Path(path) => proto::read(&mut BufReader::new(File::open(path).map_err(|error| io(path, error))?)),
        };
        let fault = |problem: String| GraphError::new("model", problem);
        let skeleton = found.map_err(|error| fault(error.to_string()))?;
        let profile = entry(&skeleton, PROFILE_KEY).map_or(Ok(Profile::default()), str::parse).map_err(fault)?;
        Ok(Self { source, skeleton, profile })
    }

    /// A text entry of the metadata.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn entry(&self, key: &str) -> Result<&str> {
        let missing = || GraphError::new("model", format!("its metadata lack {key}"));
        Ok(entry(&self.skeleton, key).ok_or_else(missing)?)
    }

    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    /// The one batch size that the model runs with, if it is fixed.
    pub(crate) fn batch(&self) -> Option<usize> {
        let input = self.skeleton.model.graph.as_ref()?.input.first()?;
        match proto::tensor_type(input)?.1.first()? {
            proto::DimValue::DimValue(size) => usize::try_from(*size).ok(),
            proto::DimValue::DimParam(_) => None,
        }
    }

    /// Constants with the places of their numbers.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&TensorProto, &Place)> {
        self.skeleton.model.graph.iter().flat_map(|graph| &graph.initializer).zip(&self.skeleton.places)
    }

    /// Bytes of all constants.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.skeleton.places.iter().map(|place| place.length).sum()
    }

    /// What our checker finds wrong.
    pub(crate) fn faults(&self) -> Vec<String> {
        let lengths: Vec<_> = self.skeleton.places.iter().map(|place| place.length).collect();
        let graph = graph::check_model(&self.skeleton.model, &lengths).err();
        let places = self.constants().filter_map(|(tensor, place)| self.misplaced(&tensor.name, place));
        graph.map(|error| error.to_string()).into_iter().chain(places).collect()
    }

    fn misplaced(&self, name: &str, place: &Place) -> Option<String> {
        let file = place.file.as_ref()?;
        let problem = match self.beside(file).and_then(|path| Ok(path.metadata()?.len())) {
            Err(error) => error.to_string(),
            Ok(_) if !place.offset.is_multiple_of(ALIGNMENT) => {
                format!("begins at byte {}, not at a page", place.offset)
            }
            Ok(length) if place.offset.checked_add(place.length).is_none_or(|end| end > length) => {
                format!("{file} ends before it")
            }
            Ok(_) => return None,
        };
        Some(GraphError::new(name, problem).to_string())
    }

    /// The path of another file of the model.
    fn beside(&self, file: &str) -> io::Result<PathBuf> {
        let plain = matches!(Path::new(file).components().collect::<Vec<_>>().as_slice(), [Component::Normal(_)]);
        let Source::Path(model) = &self.source else { return Err(io::Error::other("the model is not on disk")) };
        if plain { Ok(model.with_file_name(file)) } else { Err(io::Error::other(format!("{file:?} is no file name"))) }
    }

    /// The numbers of a constant.
    ///
    /// # Errors
    /// They are not there.
    pub(crate) fn numbers(&self, place: &Place) -> Result<Vec<u8>> {
        let read = || match (&place.file, &self.source) {
            (None, Source::Bytes(bytes)) => part(&mut Cursor::new(bytes), place),
            (None, Source::Path(path)) => part(&mut File::open(path)?, place),
            (Some(file), _) => part(&mut File::open(self.beside(file)?)?, place),
        };
        read().map_err(|error| io(&self.path(), error))
    }

    /// SHA-256 of the model, and of the file with its weights behind it if there is one.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn sha256(&self) -> Result<String> {
        let mut hash = Sha256::new();
        match &self.source {
            Source::Bytes(bytes) => hash.update(bytes),
            Source::Path(path) => add(&mut hash, path).map_err(|error| io(path, error))?,
        }
        let mut others: Vec<_> = self.skeleton.places.iter().filter_map(|place| place.file.as_ref()).collect();
        others.sort();
        others.dedup();
        for file in others {
            self.beside(file).and_then(|path| add(&mut hash, &path)).map_err(|error| io(&self.path(), error))?;
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The whole model as one message, weights included.
    ///
    /// # Errors
    /// Weights that are not there.
    pub(crate) fn whole(&self) -> Result<ModelProto> {
        let mut model = self.skeleton.model.clone();
        let tensors = model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        for (tensor, place) in tensors.zip(&self.skeleton.places) {
            tensor.raw_data = self.numbers(place)?;
            tensor.external_data.clear();
            tensor.data_location = Some(DataLocation::Default.into());
        }
        Ok(model)
    }

    fn path(&self) -> PathBuf {
        match &self.source {
            Source::Bytes(_) => PathBuf::from("model"),
            Source::Path(path) => path.clone(),
        }
    }
}

fn entry<'a>(skeleton: &'a Skeleton, key: &str) -> Option<&'a str> {
    let entries = &skeleton.model.metadata_props;
    entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

fn io(path: &Path, source: io::Error) -> Error {
    Error::Models(drifting_models::Error::Io { path: path.to_owned(), source })
}

fn part(source: &mut (impl Read + Seek), place: &Place) -> io::Result<Vec<u8>> {
    source.seek(SeekFrom::Start(place.offset))?;
    let mut bytes = Vec::new();
    source.take(place.length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == place.length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn add(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    loop {
        let bytes = file.fill_buf()?;
        let length = bytes.len();
        if length == 0 {
            return Ok(());
        }
        hash.update(bytes);
        file.consume(length);
    }
}
