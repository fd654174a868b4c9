//! The settings of where training and test images come from.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DataError, Embedded, Result};

/// A source of labelled images, as the table `data` of a configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Keys", into = "Keys")]
pub enum DataSource {
    /// Images that come with the program: `embedded = "fashion-mnist"`.
    Embedded(Embedded),
    /// A folder: `path = "..."`.
    Path(PathSource),
}

/// A file or folder of images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathSource {
    /// The file or folder.
    pub path: PathBuf,
    /// What is in it.
    pub kind: Kind,
    /// What to do with images that cannot be decoded; idx and CIFAR-10 files are always refused.
    pub on_bad: OnBad,
    /// Where the test images are; idx and CIFAR-10 folders bring their own.
    pub test_path: Option<PathBuf>,
    /// Beginning of the names of the training files, for `shards`, `webdataset` and `parquet`.
    pub files: String,
    /// Beginning of the names of the test files; with it `test_path` may be left out.
    pub test_files: String,
    /// Whether images stay on disk until they are drawn; left open, small sets that are not cropped are kept in memory.
    pub lazy: Option<bool>,
    /// Holds CIFAR-10's files against the published checksums.
    pub verify: bool,
}

/// What a file or folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Whichever of them is there.
    #[default]
    Auto,
    /// idx files under the standard names.
    Idx,
    /// CIFAR-10's binary batches.
    Cifar10,
    /// One folder of images for each class.
    Folder,
    /// safetensors files of latents or images, as `drifting data latents` writes them.
    Shards,
    /// tar files of images and labels.
    Webdataset,
    /// Parquet files with a column of encoded images and one of labels.
    Parquet,
}

impl Kind {
    /// Whether test images lie beside the training images under names of their own.
    pub(super) fn brings_test(self) -> bool {
        matches!(self, Self::Idx | Self::Cifar10)
    }

    /// Whether there may be many files, of which the settings name some.
    fn has_files(self) -> bool {
        matches!(self, Self::Auto | Self::Shards | Self::Webdataset | Self::Parquet)
    }
}

/// What to do with image files that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
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
    #[serde(skip_serializing_if = "String::is_empty")]
    files: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    test_files: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lazy: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    verify: bool,
}

impl Keys {
    /// The first key that only a path explains.
    fn needs_path(&self) -> Option<&'static str> {
        let keys = [
            ("data.kind", self.kind.is_some()),
            ("data.on_bad", self.on_bad.is_some()),
            ("data.test_path", self.test_path.is_some()),
            ("data.files", !self.files.is_empty()),
            ("data.test_files", !self.test_files.is_empty()),
            ("data.lazy", self.lazy.is_some()),
            ("data.verify", self.verify),
        ];
        keys.into_iter().find(|(_, set)| *set).map(|(key, _)| key)
    }
}

impl TryFrom<Keys> for DataSource {
    type Error = DataError;

    fn try_from(keys: Keys) -> Result<Self> {
        let setting = |key, problem: &str| DataError::Setting { key, problem: problem.into() };
        if keys.path.is_none() {
            return match keys.needs_path() {
                None => Ok(Self::Embedded(keys.embedded.unwrap_or_default())),
                Some(key) => Err(setting(key, "only goes with data.path")),
            };
        }
        if keys.embedded.is_some() {
            return Err(setting("data.embedded", "cannot be set together with data.path: give one of them"));
        }
        let Keys { path, kind, on_bad, test_path, files, test_files, lazy, verify, .. } = keys;
        let (path, kind, on_bad) = (path.unwrap_or_default(), kind.unwrap_or_default(), on_bad.unwrap_or_default());
        if kind.brings_test() && test_path.is_some() {
            let problem = "does not go with kind = \"idx\" or \"cifar10\": their test images are in data.path";
            return Err(setting("data.test_path", problem));
        }
        if !(kind.has_files() || files.is_empty() && test_files.is_empty()) {
            return Err(setting("data.files", "only goes with kind = \"shards\", \"webdataset\" or \"parquet\""));
        }
        Ok(Self::Path(PathSource { path, kind, on_bad, test_path, files, test_files, lazy, verify }))
    }
}

impl From<DataSource> for Keys {
    fn from(source: DataSource) -> Self {
        match source {
            DataSource::Embedded(embedded) => Self { embedded: Some(embedded), ..Self::default() },
            DataSource::Path(source) => {
                let PathSource { path, kind, on_bad, test_path, files, test_files, lazy, verify } = source;
                let (path, kind, on_bad) = (Some(path), Some(kind), Some(on_bad));
                Self { embedded: None, path, kind, on_bad, test_path, files, test_files, lazy, verify }
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
    /// The file or folder `path`, whatever it holds; images that cannot be decoded are refused.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::Path(PathSource { path: path.into(), ..PathSource::default() })
    }

    /// What to do with images that cannot be decoded.
    #[must_use]
    pub fn on_bad(&self) -> OnBad {
        match self {
            Self::Embedded(_) => OnBad::Refuse,
            Self::Path(source) => source.on_bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(
            parse("path = \"x\"\nkind = \"idx\"\ntest_path = \"y\"")
                .unwrap_err()
                .starts_with("data.test_path: does not go")
        );
        assert!(parse("path = \"x\"\nkind = \"idx\"\nfiles = \"y\"").unwrap_err().starts_with("data.files: only goes"));
        assert_eq!(parse("verify = true").unwrap_err(), "data.verify: only goes with data.path");
        let text = "path = \"x\"\nkind = \"parquet\"\non_bad = \"refuse\"\nfiles = \"train\"\ntest_files = \"val\"\nlazy = true\n";
        assert_eq!(toml::to_string(&parse(text).unwrap()).unwrap(), text);
        assert!(parse("paht = \"x\"").unwrap_err().contains("unknown field `paht`"));
    }
}
