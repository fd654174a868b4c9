//! Where the shared libraries of the engines come from.
//!
//! ONNX Runtime, in this order: the file that `ORT_DYLIB_PATH` names, the cache of this program, and one download by the
//! user's own `pip` into that cache. Nothing else is searched, so the library in use never depends on what a machine
//! happens to have installed. The kits for GPUs are larger and only installed when asked for ([`install()`]).

mod gpu;
mod install;
mod kit;
mod mapped;
mod pip;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use gpu::{Gpu, gpus};
pub use install::{Installed, install};
pub(crate) use kit::PLUGIN;
pub use kit::{Kit, TENSORRT_RTX_VERSION, VERSION};
#[cfg(feature = "tensorrt")]
pub(crate) use kit::{TENSORRT_RTX, TENSORRT_RTX_PARSER};
pub(crate) use mapped::mapped;

/// Names the shared library to use.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
/// Names the folder of this program's cache.
pub const CACHE_VARIABLE: &str = "DRIFTING_CACHE";
/// Forbids downloads when set to anything but `0`.
pub const OFFLINE_VARIABLE: &str = "DRIFTING_OFFLINE";

/// Where ONNX Runtime may be looked for.
#[derive(Clone, Debug, Default)]
pub struct RuntimeSettings {
    /// The library to use instead of any other.
    pub library: Option<PathBuf>,
    /// This program's cache.
    pub cache: Option<PathBuf>,
    /// Whether downloads are forbidden.
    pub offline: bool,
}

impl RuntimeSettings {
    /// Reads [`LIBRARY_VARIABLE`], [`CACHE_VARIABLE`] (else `$XDG_CACHE_HOME/drifting`, else `~/.cache/drifting`) and
    /// [`OFFLINE_VARIABLE`].
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name| variable(name).map(PathBuf::from);
        let cache = folder(CACHE_VARIABLE)
            .or_else(|| Some(folder("XDG_CACHE_HOME").filter(|path| path.is_absolute())?.join("drifting")))
            .or_else(|| Some(folder("HOME")?.join(".cache/drifting")));
        let offline = variable(OFFLINE_VARIABLE).is_some_and(|value| value != "0");
        Self { library: folder(LIBRARY_VARIABLE), cache, offline }
    }

    /// Where the cache holds `kit`, if there is a cache and such a kit for this machine.
    #[must_use]
    pub fn kit_folder(&self, kit: Kit) -> Option<PathBuf> {
        kit.path(self.cache.as_ref()?)
    }

    /// Where the cache holds ONNX Runtime in `kit`.
    #[must_use]
    pub fn cached_library(&self, kit: Kit) -> Option<PathBuf> {
        let name = kit.libraries().into_iter().find(|name| name.starts_with("libonnxruntime."))?;
        Some(self.kit_folder(kit)?.join(name))
    }
}

/// How a library was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// `ORT_DYLIB_PATH` names it.
    Variable,
    /// It was in the cache.
    Cache,
    /// It was downloaded just now.
    Download,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variable => LIBRARY_VARIABLE,
            Self::Cache => "cache",
            Self::Download => "download",
        })
    }
}

/// A shared library of ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Library {
    /// The file.
    pub path: PathBuf,
    /// How it was found.
    pub source: Source,
}

/// Why a library cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The variable names no file.
    #[error("{LIBRARY_VARIABLE} names {}, which is no file", .0.display())]
    Variable(PathBuf),
    /// No environment variable tells where the cache is.
    #[error("there is no folder for the download: set {CACHE_VARIABLE}, or {LIBRARY_VARIABLE} to a libonnxruntime")]
    NoCache,
    /// There are no pinned wheels for this machine.
    #[error("no wheel of {kit} is known for {platform}; set {LIBRARY_VARIABLE} to a libonnxruntime")]
    Platform {
        /// What was asked for.
        kit: Kit,
        /// Operating system and processor.
        platform: String,
    },
    /// Downloads are forbidden.
    #[error(
        "{kit} is not in the cache ({}) and {OFFLINE_VARIABLE} forbids a download; set {LIBRARY_VARIABLE} to a libonnxruntime",
        place.display()
    )]
    Offline {
        /// What was asked for.
        kit: Kit,
        /// Where it would be.
        place: PathBuf,
    },
    /// The kit is not installed, and too large to be fetched without being asked for.
    #[error("{kit} is not installed; `{}` installs it", kit.command())]
    NotInstalled {
        /// The kit.
        kit: Kit,
    },
    /// The disk is too full.
    #[error(
        "{} has {free} MB free and {needed} MB are needed; {CACHE_VARIABLE} names a folder on another disk",
        folder.display()
    )]
    Space {
        /// Where it was to be installed.
        folder: PathBuf,
        /// Megabytes that are needed.
        needed: u64,
        /// Megabytes that are free.
        free: u64,
    },
    /// Python or pip did not do its part.
    #[error("`{command}` failed: {problem}")]
    Python {
        /// What was run.
        command: String,
        /// What it said last.
        problem: String,
    },
    /// The cache cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RuntimeError + use<> {
    let path = path.to_owned();
    move |source| RuntimeError::Io { path, source }
}

/// Operating system and processor.
fn platform() -> String {
    format!("{} {}", env::consts::OS, env::consts::ARCH)
}

/// Finds ONNX Runtime in `kit`. That of the CPU is downloaded once if it must; `notify` is told what happens before it
/// does. Larger kits are never downloaded here.
///
/// # Errors
/// Names the place that was looked at and what to do.
pub fn find(kit: Kit, settings: &RuntimeSettings, notify: &dyn Fn(&str)) -> Result<Library, RuntimeError> {
    if let Some(library) = look(kit, settings)? {
        return Ok(library);
    }
    if kit != Kit::OnnxRuntime {
        return Err(RuntimeError::NotInstalled { kit });
    }
    let Installed { fresh, .. } = install(kit, settings, notify)?;
    let path = settings.cached_library(kit).ok_or(RuntimeError::NoCache)?;
    Ok(Library { path, source: if fresh { Source::Download } else { Source::Cache } })
}

/// Looks for ONNX Runtime in `kit` without downloading anything.
///
/// # Errors
/// `ORT_DYLIB_PATH` names no file: what was asked for by name is not replaced by another library.
pub fn look(kit: Kit, settings: &RuntimeSettings) -> Result<Option<Library>, RuntimeError> {
    match &settings.library {
        Some(path) if path.is_file() => Ok(Some(Library { path: path.clone(), source: Source::Variable })),
        Some(path) => Err(RuntimeError::Variable(path.clone())),
        None => {
            let complete = settings.kit_folder(kit).is_some_and(|folder| kit.is_complete(&folder));
            let cached = settings.cached_library(kit).filter(|_| complete);
            Ok(cached.map(|path| Library { path, source: Source::Cache }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn nothing_is_said(message: &str) {
        panic!("{message}");
    }

    #[test]
    fn variables_name_library_and_cache() {
        let settings = |variables: &[(&str, &str)]| {
            let variables = variables.to_vec();
            RuntimeSettings::from_variables(move |name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            })
        };
        let cache = |variables: &[(&str, &str)]| settings(variables).cache;
        assert_eq!(cache(&[]), None);
        assert_eq!(cache(&[("HOME", "/h")]), Some("/h/.cache/drifting".into()));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some("/x/drifting".into()));
        assert_eq!(cache(&[("DRIFTING_CACHE", "d"), ("XDG_CACHE_HOME", "/x")]), Some("d".into()));
        assert!(settings(&[("DRIFTING_OFFLINE", "1")]).offline);
        assert!(!settings(&[("DRIFTING_OFFLINE", "0")]).offline);
        assert_eq!(settings(&[("ORT_DYLIB_PATH", "/l.so")]).library, Some("/l.so".into()));
    }

    #[test]
    fn a_named_library_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        let settings = RuntimeSettings { library: Some(path.clone()), ..RuntimeSettings::default() };
        let find = || find(Kit::OnnxRuntime, &settings, &nothing_is_said);
        let error = find().unwrap_err().to_string();
        assert!(error.contains("ORT_DYLIB_PATH") && error.contains("libonnxruntime.so"), "{error}");
        fs::write(&path, "").unwrap();
        assert_eq!(find().unwrap(), Library { path, source: Source::Variable });
    }

    #[test]
    fn the_cache_is_used_and_offline_means_no_download() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Some(folder.path().to_owned());
        let settings = RuntimeSettings { cache, offline: true, ..RuntimeSettings::default() };
        let Some(path) = settings.cached_library(Kit::OnnxRuntime) else { return };
        let find = |settings| find(Kit::OnnxRuntime, settings, &nothing_is_said);
        let error = find(&settings).unwrap_err();
        assert!(
            matches!(error, RuntimeError::Offline { .. }) && error.to_string().contains("DRIFTING_OFFLINE"),
            "{error}"
        );
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(find(&settings).unwrap(), Library { path, source: Source::Cache });
        assert!(matches!(find(&RuntimeSettings::default()), Err(RuntimeError::NoCache)));
    }

    #[test]
    fn large_kits_are_used_if_complete_and_never_fetched_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let settings = RuntimeSettings { cache: Some(folder.path().to_owned()), ..RuntimeSettings::default() };
        let Some(kit) = settings.kit_folder(Kit::Cuda) else { return };
        let error = find(Kit::Cuda, &settings, &nothing_is_said).unwrap_err().to_string();
        assert!(error.contains("`drifting runtime install --cuda`"), "{error}");
        fs::create_dir_all(&kit).unwrap();
        let names = Kit::Cuda.libraries();
        for (number, name) in names.iter().enumerate() {
            assert_eq!(look(Kit::Cuda, &settings).unwrap(), None, "{number} of {} libraries", names.len());
            fs::write(kit.join(name), "").unwrap();
        }
        let found = look(Kit::Cuda, &settings).unwrap().unwrap();
        assert!(found.path.ends_with("libonnxruntime.so.1.31.1") && found.path.starts_with(&kit));
    }
}
