//! The libraries of the kits for GPUs and of the system, each opened.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::engine::{missing_library, open_library, remedy};
use crate::runtime::{self, Kit, RuntimeSettings};

/// What was found of a kit.
#[derive(Clone, Debug, Serialize)]
pub struct KitReport {
    /// The kit.
    pub kit: Kit,
    /// What it is, for people.
    pub title: &'static str,
    /// Where it belongs.
    pub folder: Option<PathBuf>,
    /// Whether it is there.
    pub installed: bool,
    /// Its libraries, in the order in which they were opened.
    pub libraries: Vec<LibraryReport>,
    /// What to do if it is not there or does not open.
    pub advice: Option<String>,
}

/// What was found of a library.
#[derive(Clone, Debug, Serialize)]
pub struct LibraryReport {
    /// Its name.
    pub name: String,
    /// Its version: that of the package it came with, or what its file's name tells.
    pub version: Option<String>,
    /// The file, if it could be opened.
    pub file: Option<PathBuf>,
    /// Why it could not be opened.
    pub problem: Option<String>,
    /// What mends that.
    pub advice: Option<String>,
}

/// Opens every library of `kit`.
pub(super) fn kit(kit: Kit, settings: &RuntimeSettings) -> KitReport {
    let folder = settings.kit_folder(kit);
    let installed = folder.as_deref().is_some_and(|folder| kit.is_complete(folder));
    let mut report = KitReport { kit, title: kit.title(), folder, installed, libraries: Vec::new(), advice: None };
    match &report.folder {
        None => report.advice = Some("does not exist for this machine, or there is no folder for it".to_owned()),
        Some(_) if !installed => report.advice = Some(format!("`{}` installs it", kit.command())),
        Some(folder) => report.libraries = kit.versions().map(|(name, version)| open(folder, name, version)).collect(),
    }
    let problem = report.libraries.iter().find_map(|library| library.advice.clone());
    report.advice = report.advice.or(problem);
    report
}

fn open(folder: &Path, name: &str, version: &str) -> LibraryReport {
    let path = folder.join(name);
    let problem = open_library(&path).err();
    let file = problem.is_none().then_some(path);
    LibraryReport { name: name.to_owned(), version: Some(version.to_owned()), file, advice: advice(&problem), problem }
}

/// Opens what a kit cannot hold: the driver, and TensorRT 10.
pub(super) fn system() -> Vec<LibraryReport> {
    let library = |name: &str| {
        let problem = open_library(name).err();
        let file = runtime::mapped(name).filter(|_| problem.is_none());
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let version =
            file.as_ref().and_then(|file| Some(file.file_name()?.to_string_lossy().strip_prefix(stem)?.to_owned()));
        LibraryReport { name: name.to_owned(), version, file, advice: advice(&problem), problem }
    };
    ["libcuda.so.1", "libnvinfer.so.10", "libnvonnxparser.so.10"].map(library).into()
}

fn advice(problem: &Option<String>) -> Option<String> {
    remedy(missing_library(problem.as_deref()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_does_not_open_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let settings = RuntimeSettings { cache: Some(folder.path().to_owned()), ..RuntimeSettings::default() };
        let absent = kit(Kit::TensorRt, &settings);
        let Some(place) = absent.folder.clone() else { return };
        assert!(!absent.installed && absent.advice.unwrap().contains("drifting runtime install --tensorrt"));
        std::fs::create_dir_all(&place).unwrap();
        for name in Kit::TensorRt.libraries() {
            std::fs::write(place.join(name), "not a library").unwrap();
        }
        let broken = kit(Kit::TensorRt, &settings);
        assert!(broken.installed && broken.libraries.len() == Kit::TensorRt.libraries().len());
        for library in &broken.libraries {
            assert!(library.file.is_none() && library.problem.as_ref().unwrap().contains(&library.name), "{library:?}");
        }
        assert_eq!(broken.libraries[1].version.as_deref(), Some("0.5.0"));
    }

    #[test]
    fn libraries_of_the_system_are_opened_or_explained() {
        for library in system() {
            assert_ne!(library.file.is_some(), library.problem.is_some(), "{library:?}");
            assert!(library.file.is_some() || library.advice.is_some(), "{library:?}");
        }
    }
}
