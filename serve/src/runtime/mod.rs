//! Where the shared library of ONNX Runtime comes from.
//!
//! In this order: the file that `ORT_DYLIB_PATH` names, the cache of this program, and one download by the user's own
//! `pip` into that cache. Nothing else is searched, so the library in use never depends on what a machine happens to
//! have installed.

mod fetch;
mod wheel;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

pub use wheel::VERSION;

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

    /// Where the cache holds the library, if there is a cache and a wheel for this platform.
    #[must_use]
    pub fn cached_library(&self) -> Option<PathBuf> {
        let wheel = wheel::for_this_platform()?;
        Some(self.cache.as_ref()?.join("onnxruntime").join(VERSION).join(wheel.platform).join(wheel.file_name()))
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

/// Why ONNX Runtime cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The variable names no file.
    #[error("{LIBRARY_VARIABLE} names {}, which is no file", .0.display())]
    Variable(PathBuf),
    /// No environment variable tells where the cache is.
    #[error("there is no folder for the download: set {CACHE_VARIABLE}, or {LIBRARY_VARIABLE} to a libonnxruntime")]
    NoCache,
    /// There is no pinned wheel for this machine.
    #[error("no wheel of ONNX Runtime {VERSION} is known for {0}; set {LIBRARY_VARIABLE} to a libonnxruntime")]
    Platform(String),
    /// Downloads are forbidden.
    #[error("it is not in the cache ({}) and {OFFLINE_VARIABLE} forbids a download; set {LIBRARY_VARIABLE} to a libonnxruntime", .0.display())]
    Offline(PathBuf),
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

/// Finds ONNX Runtime, downloading it once if it must; `notify` is told what happens before it does.
///
/// # Errors
/// Names the place that was looked at and what to do.
pub fn find(settings: &RuntimeSettings, notify: &dyn Fn(&str)) -> Result<Library, RuntimeError> {
    if let Some(library) = look(settings)? {
        return Ok(library);
    }
    let platform = || RuntimeError::Platform(format!("{} {}", env::consts::OS, env::consts::ARCH));
    let wheel = wheel::for_this_platform().ok_or_else(platform)?;
    let target = settings.cached_library().ok_or(RuntimeError::NoCache)?;
    if settings.offline {
        return Err(RuntimeError::Offline(target));
    }
    fetch::fetch(wheel, &target, notify)
}

/// Looks for ONNX Runtime without downloading anything.
///
/// # Errors
/// `ORT_DYLIB_PATH` names no file: what was asked for by name is not replaced by another library.
pub fn look(settings: &RuntimeSettings) -> Result<Option<Library>, RuntimeError> {
    match &settings.library {
        Some(path) if path.is_file() => Ok(Some(Library { path: path.clone(), source: Source::Variable })),
        Some(path) => Err(RuntimeError::Variable(path.clone())),
        None => {
            let cached = settings.cached_library().filter(|path| path.is_file());
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
        let error = find(&settings, &nothing_is_said).unwrap_err().to_string();
        assert!(error.contains("ORT_DYLIB_PATH") && error.contains("libonnxruntime.so"), "{error}");
        fs::write(&path, "").unwrap();
        assert_eq!(find(&settings, &nothing_is_said).unwrap(), Library { path, source: Source::Variable });
    }

    #[test]
    fn the_cache_is_used_and_offline_means_no_download() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Some(folder.path().to_owned());
        let settings = RuntimeSettings { cache, offline: true, ..RuntimeSettings::default() };
        let Some(path) = settings.cached_library() else { return };
        let error = find(&settings, &nothing_is_said).unwrap_err();
        assert!(matches!(error, RuntimeError::Offline(_)) && error.to_string().contains("DRIFTING_OFFLINE"), "{error}");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(find(&settings, &nothing_is_said).unwrap(), Library { path, source: Source::Cache });
        assert!(matches!(find(&RuntimeSettings::default(), &nothing_is_said), Err(RuntimeError::NoCache)));
    }
}
