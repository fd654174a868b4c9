//! One download of the library by the user's own pip.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::wheel::{VERSION, Wheel};
use super::{Library, RuntimeError, Source};

const PYTHON: &str = "python3";

/// Extracts one member of a zip file: archive, member, target folder.
const EXTRACT: &str = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(sys.argv[2], sys.argv[3])";

/// Downloads `wheel` with pip, which checks its hash, and moves the library to `target` in one step.
///
/// A lock beside the target makes a second process wait for the first and then use what it fetched.
///
/// # Errors
/// Python or pip is missing or fails (no network, another hash), or the cache cannot be written.
pub(super) fn fetch(wheel: &Wheel, target: &Path, notify: &dyn Fn(&str)) -> Result<Library, RuntimeError> {
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io(folder))?;
    let folder = folder.canonicalize().map_err(io(folder))?;
    let lock_path = folder.join(".lock");
    let lock = File::create(&lock_path).map_err(io(&lock_path))?;
    lock.lock().map_err(io(&lock_path))?;
    if target.is_file() {
        return Ok(Library { path: target.to_owned(), source: Source::Cache });
    }
    notify(&format!(
        "ONNX Runtime is not installed: fetching version {VERSION} once with pip ({} MB, hash checked) into {}",
        wheel.megabytes,
        folder.display()
    ));
    let workplace = Workplace::new(folder.join(".download"))?;
    let archive = download(wheel, &workplace.0)?;
    let archive = archive.to_string_lossy();
    python(&workplace.0, &["-c", EXTRACT, &archive, wheel.member, "unpacked"])?;
    publish(&workplace.0.join("unpacked").join(wheel.member), target)?;
    Ok(Library { path: target.to_owned(), source: Source::Download })
}

fn download(wheel: &Wheel, folder: &Path) -> Result<PathBuf, RuntimeError> {
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, wheel.requirement()).map_err(io(&requirements))?;
    let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"];
    // Retries multiply the wait of a machine without network.
    let patience = ["--retries", "1", "--timeout", "15"];
    // The wheel for Python 3.11 holds the same library as all others: any Python can fetch it.
    let which = ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"];
    let what = ["--platform", wheel.platform, "--require-hashes", "-r", "requirements.txt", "-d", "."];
    python(folder, &[&pip[..], &patience, &which, &what].concat())?;
    let entries = fs::read_dir(folder).map_err(io(folder))?;
    let wheels = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let found = wheels.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let problem = || "pip wrote no wheel".to_owned();
    found.ok_or_else(|| RuntimeError::Python { command: "pip download".to_owned(), problem: problem() })
}

/// Runs Python in `folder`, so that no file of the user's own folder is taken for one of Python's modules.
fn python(folder: &Path, arguments: &[&str]) -> Result<(), RuntimeError> {
    let failed = |problem: String| {
        let start: Vec<_> = arguments.iter().take(3).copied().collect();
        RuntimeError::Python { command: format!("{PYTHON} {}", start.join(" ")), problem }
    };
    let mut command = Command::new(PYTHON);
    let output = command.args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = told(&text);
    Err(failed(if last.is_empty() { output.status.to_string() } else { last }))
}

/// The lines in which pip tells its error, else the last one.
fn told(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let errors: Vec<_> = lines().filter(|line| line.starts_with("ERROR:")).take(2).collect();
    if errors.is_empty() { lines().next_back().unwrap_or_default().to_owned() } else { errors.join(" ") }
}

/// Syncs the file and renames it to `target`: a process sees the whole library or none.
fn publish(file: &Path, target: &Path) -> Result<(), RuntimeError> {
    File::open(file).and_then(|file| file.sync_all()).map_err(io(file))?;
    fs::rename(file, target).map_err(io(target))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RuntimeError {
    let path = path.to_owned();
    move |source| RuntimeError::Io { path, source }
}

/// A folder for one download: emptied before, removed after.
struct Workplace(PathBuf);

impl Workplace {
    fn new(path: PathBuf) -> Result<Self, RuntimeError> {
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io(&path))?;
        }
        fs::create_dir(&path).map_err(io(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_says_last_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = python(folder.path(), &["-c", "import sys; sys.exit('no such wheel')"]).unwrap_err().to_string();
        assert!(error.contains("python3 -c") && error.contains("no such wheel"), "{error}");
        assert_eq!(told("WARNING: again\nERROR: no network\n\nNotice: old pip\n"), "ERROR: no network");
    }

    #[test]
    fn a_workplace_starts_empty_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("left over"), "").unwrap();
        let workplace = Workplace::new(path.clone()).unwrap();
        assert_eq!(fs::read_dir(&workplace.0).unwrap().count(), 0);
        drop(workplace);
        assert!(!path.exists());
    }

    #[test]
    fn publishing_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (file, target) = (folder.path().join("new"), folder.path().join("target"));
        fs::write(&file, "new").unwrap();
        fs::write(&target, "old").unwrap();
        publish(&file, &target).unwrap();
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), file.exists()), ("new", false));
    }
}
