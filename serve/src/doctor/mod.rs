//! What this machine offers for serving, found without changing it.

mod libraries;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::engine::{self, RTEN_VERSION};
use crate::runtime::{self, Gpu, Kit, Library, RuntimeSettings};

pub use libraries::{KitReport, LibraryReport};

/// What `drifting doctor` tells about serving.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// The engine that `--engine auto` takes now.
    pub engine: &'static str,
    /// ONNX Runtime.
    pub onnxruntime: OnnxRuntimeReport,
    /// The kits for GPUs, with all their libraries.
    pub kits: Vec<KitReport>,
    /// Libraries that only the system can bring.
    pub system: Vec<LibraryReport>,
    /// NVIDIA's GPUs.
    pub gpus: Vec<Gpu>,
    /// What a download needs.
    pub python: PythonReport,
    /// Version of the compiled-in engine rten.
    pub rten: &'static str,
    /// Processors that this process may use.
    pub threads: usize,
}

/// What was found of ONNX Runtime.
#[derive(Clone, Debug, Serialize)]
pub struct OnnxRuntimeReport {
    /// The library in use.
    pub library: Option<Library>,
    /// Its version.
    pub version: Option<String>,
    /// How it was built, in its own words.
    pub build: Option<String>,
    /// The version that a download would bring.
    pub pinned: &'static str,
    /// The places in the order in which they were looked at.
    pub places: Vec<Place>,
    /// What to do if there is none.
    pub advice: Option<String>,
}

/// A place where ONNX Runtime may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The place.
    pub name: String,
    /// What is there, or why it was passed over.
    pub finding: String,
}

/// What was found of Python.
#[derive(Clone, Debug, Serialize)]
pub struct PythonReport {
    /// `python3 --version`.
    pub python: Option<String>,
    /// `python3 -m pip --version`.
    pub pip: Option<String>,
}

/// Looks at this machine. Loads ONNX Runtime and every library of the kits that are there; downloads nothing.
#[must_use]
pub fn doctor(settings: &RuntimeSettings) -> Report {
    let python = PythonReport { python: python(&["--version"]), pip: python(&["-m", "pip", "--version"]) };
    let onnxruntime = onnxruntime(settings, python.pip.is_some());
    Report {
        version: env!("CARGO_PKG_VERSION"),
        engine: if onnxruntime.version.is_some() { "onnxruntime" } else { "rten" },
        onnxruntime,
        system: libraries::system(),
        kits: [Kit::Cuda, Kit::TensorRt].map(|kit| libraries::kit(kit, settings)).into(),
        gpus: runtime::gpus(),
        python,
        rten: RTEN_VERSION,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn onnxruntime(settings: &RuntimeSettings, pip: bool) -> OnnxRuntimeReport {
    let found = runtime::look(Kit::OnnxRuntime, settings);
    let mut report = OnnxRuntimeReport {
        library: None,
        version: None,
        build: None,
        pinned: runtime::VERSION,
        places: places(settings, pip),
        advice: None,
    };
    match found.map(|library| library.map(|library| (engine::load_onnxruntime(&library.path), library))) {
        Ok(Some((Ok(loaded), library))) => {
            report.library = Some(Library { path: loaded.library, ..library });
            report.version = Some(loaded.version);
            report.build = Some(loaded.build.to_owned());
        }
        Ok(Some((Err(error), _))) => report.advice = Some(error.to_string()),
        Err(error) => report.advice = Some(error.to_string()),
        Ok(None) if settings.offline => {
            report.advice = Some(format!("unset {} or set {}", runtime::OFFLINE_VARIABLE, runtime::LIBRARY_VARIABLE));
        }
        Ok(None) if pip => {
            report.advice =
                Some(format!("`{}` fetches it now, `drifting serve` when it needs it", Kit::OnnxRuntime.command()));
        }
        Ok(None) => report.advice = Some(format!("install python3 with pip, or set {}", runtime::LIBRARY_VARIABLE)),
    }
    report
}

fn places(settings: &RuntimeSettings, pip: bool) -> Vec<Place> {
    let exists = |path: &PathBuf| match path.is_file() {
        true => path.display().to_string(),
        false => format!("{} is no file", path.display()),
    };
    let place = |name: &str, finding: String| Place { name: name.to_owned(), finding };
    let named = settings.library.as_ref();
    let cached = settings.cached_library(Kit::OnnxRuntime);
    let download = match (named.is_some(), settings.offline, pip) {
        (true, ..) => format!("passed over: {} is set", runtime::LIBRARY_VARIABLE),
        (_, true, _) => format!("forbidden by {}", runtime::OFFLINE_VARIABLE),
        (_, _, false) => "not possible: python3 has no pip".to_owned(),
        _ => "possible".to_owned(),
    };
    vec![
        place(runtime::LIBRARY_VARIABLE, named.map_or_else(|| "not set".to_owned(), exists)),
        place("cache", cached.as_ref().map_or_else(|| "none for this platform".to_owned(), exists)),
        place("download", download),
    ]
}

/// The first line that Python prints.
fn python(arguments: &[&str]) -> Option<String> {
    // Elsewhere a file pip.py in the user's folder would be taken for pip.
    let output =
        Command::new("python3").args(arguments).current_dir(std::env::temp_dir()).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().filter(|_| output.status.success()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let absent = RuntimeSettings { library: Some(folder.path().join("absent.so")), ..RuntimeSettings::default() };
        let report = doctor(&absent);
        assert_eq!((report.engine, report.onnxruntime.version), ("rten", None));
        assert!(report.onnxruntime.advice.unwrap().contains("absent.so"));
        assert!(report.onnxruntime.places[0].finding.contains("absent.so is no file"));

        let cache = Some(folder.path().to_owned());
        let offline = doctor(&RuntimeSettings { cache, offline: true, library: None });
        assert!(offline.onnxruntime.advice.unwrap().contains("DRIFTING_OFFLINE"));
        assert!(offline.onnxruntime.places[2].finding.contains("forbidden"));
        assert!(offline.threads > 0);
        assert!(offline.kits.iter().all(|kit| !kit.installed && kit.libraries.is_empty() && kit.advice.is_some()));
    }

    #[test]
    fn a_file_that_is_no_library_is_told_and_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, "not a library").unwrap();
        let report = doctor(&RuntimeSettings { library: Some(path), ..RuntimeSettings::default() });
        assert_eq!(report.onnxruntime.version, None);
        assert!(report.onnxruntime.advice.unwrap().contains("libonnxruntime.so"));
    }
}
