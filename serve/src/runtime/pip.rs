//! The user's own Python and pip: downloads with a checked hash, and what is inside of a wheel.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{RuntimeError, io};

const PYTHON: &str = "python3";

/// Extracts members of a zip file into one folder, without their own folders: archive, target, members.
const EXTRACT: &str = "
import os, shutil, sys, zipfile
archive, target, members = sys.argv[1], sys.argv[2], sys.argv[3:]
with zipfile.ZipFile(archive) as archive:
    for member in members:
        with archive.open(member) as source, open(os.path.join(target, os.path.basename(member)), 'xb') as file:
            shutil.copyfileobj(source, file, 1 << 20)
";

/// Prints the free bytes of a folder's disk.
const FREE: &str = "import shutil; print(shutil.disk_usage('.').free)";

/// How often a running download is looked at, and how often it is told.
const GLANCE: Duration = Duration::from_millis(50);
const TELL: Duration = Duration::from_secs(5);

/// Downloads what `requirement` (one line with a hash) names for pip's `platform` into `folder` and returns the wheel;
/// `progress` is given the bytes on the disk now and then. `index` are pip's options that name another source.
pub(super) fn download(
    folder: &Path,
    requirement: &str,
    platform: &str,
    index: &[String],
    progress: &dyn Fn(u64),
) -> Result<PathBuf, RuntimeError> {
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, requirement).map_err(io(&requirements))?;
    let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"];
    // Retries multiply the wait of a machine without network.
    let patience = ["--no-cache-dir", "--retries", "1", "--timeout", "15"];
    // The wheel for Python 3.11 holds the same libraries as all others: any Python can fetch it.
    let which = ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"];
    let what = ["--abi", "cp311", "--abi", "none", "--platform", platform];
    let from = ["--require-hashes", "-r", "requirements.txt", "-d", "."];
    let index: Vec<&str> = index.iter().map(String::as_str).collect();
    python(folder, &[&pip[..], &patience, &which, &what, &from, &index].concat(), progress)?;
    let entries = fs::read_dir(folder).map_err(io(folder))?;
    let wheels = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let found = wheels.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let problem = || "pip wrote no wheel".to_owned();
    found.ok_or_else(|| RuntimeError::Python { command: "pip download".to_owned(), problem: problem() })
}

/// Extracts `members` of `archive` into `target`.
pub(super) fn extract(folder: &Path, archive: &Path, target: &Path, members: &[&str]) -> Result<(), RuntimeError> {
    let (archive, target) = (archive.to_string_lossy(), target.to_string_lossy());
    python(folder, &[&["-c", EXTRACT, &archive, &target][..], members].concat(), &|_| {}).map(drop)
}

/// Free bytes of the disk that holds `folder`.
pub(super) fn free_bytes(folder: &Path) -> Result<u64, RuntimeError> {
    let text = python(folder, &["-c", FREE], &|_| {})?;
    let problem = |_| RuntimeError::Python { command: format!("{PYTHON} -c"), problem: format!("it printed {text:?}") };
    text.trim().parse().map_err(problem)
}

/// Runs Python in `folder`, so that no file of the user's own folder is taken for one of Python's modules, and returns
/// what it prints.
fn python(folder: &Path, arguments: &[&str], progress: &dyn Fn(u64)) -> Result<String, RuntimeError> {
    let failed = |problem: String| {
        let start: Vec<_> = arguments.iter().take(3).map(|word| word.lines().next().unwrap_or_default()).collect();
        RuntimeError::Python { command: format!("{PYTHON} {}", start.join(" ").trim_end()), problem }
    };
    // Into files: a pipe that nobody reads would stop a process that prints much.
    let (printed, told) = (folder.join("python.out"), folder.join("python.err"));
    let create = |path: &PathBuf| File::create(path).map_err(io(path));
    let mut command = Command::new(PYTHON);
    command.args(arguments).current_dir(folder).env("TMPDIR", folder).stdin(Stdio::null());
    command.stdout(create(&printed)?).stderr(create(&told)?);
    let status = wait(&mut command, folder, progress).map_err(|error| failed(error.to_string()))?;
    let read =
        |path: &PathBuf| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(io(path));
    if status.success() {
        return read(&printed);
    }
    let last = last_words(&read(&told)?);
    Err(failed(if last.is_empty() { status.to_string() } else { last }))
}

/// Starts `command` and waits for it.
fn wait(command: &mut Command, folder: &Path, progress: &dyn Fn(u64)) -> std::io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    let mut told = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(GLANCE);
        if told.elapsed() > TELL {
            progress(size(folder));
            told = Instant::now();
        }
    }
}

/// Bytes of all files below `folder`, as far as they can be seen.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(of).sum()
}

/// The lines in which pip tells its error, else the last one.
fn last_words(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let errors: Vec<_> = lines().filter(|line| line.starts_with("ERROR:")).take(2).collect();
    if errors.is_empty() { lines().next_back().unwrap_or_default().to_owned() } else { errors.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_says_last_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let code = "import sys; sys.exit('no such wheel')";
        let error = python(folder.path(), &["-c", code], &|_| {}).unwrap_err().to_string();
        assert!(error.contains("python3 -c") && error.contains("no such wheel"), "{error}");
        assert_eq!(last_words("WARNING: again\nERROR: no network\n\nNotice: old pip\n"), "ERROR: no network");
    }

    #[test]
    fn only_the_named_members_are_extracted_and_flat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let make =
            "import zipfile; z = zipfile.ZipFile('a.zip', 'w'); z.writestr('x/y.so', 'so'); z.writestr('t', 't')";
        python(path, &["-c", make], &|_| {}).unwrap();
        fs::create_dir(path.join("out")).unwrap();
        extract(path, &path.join("a.zip"), &path.join("out"), &["x/y.so"]).unwrap();
        assert_eq!(fs::read_to_string(path.join("out/y.so")).unwrap(), "so");
        assert_eq!(fs::read_dir(path.join("out")).unwrap().count(), 1);
        let error = extract(path, &path.join("a.zip"), &path.join("out"), &["absent.so"]).unwrap_err().to_string();
        assert!(error.contains("absent.so"), "{error}");
    }

    #[test]
    fn the_disk_has_room_and_folders_have_a_size() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 0);
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), [0; 100]).unwrap();
        assert!(size(folder.path()) >= 100);
    }
}
