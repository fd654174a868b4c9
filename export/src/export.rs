//! The whole way from a network to a verified file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use drifting_spec::{Manifest, NetworkManifest};

use crate::card::{self, Sheet};
use crate::graph::DATA_ENDING;
use crate::verify::{Images, Maps, ModelFile, NetworkRunner, OpenEngine, Report, Runner};
use crate::{Error, ExportSettings, Network, OwnedModel, Result, write_model, write_network};

/// Name of the report beside the model.
pub const REPORT_FILE: &str = "verify.json";

/// Loads the model at a path into an engine.
pub type Open<'a> = OpenEngine<'a, dyn Runner>;

/// As [`Open`], for an encoder or a decoder alone.
pub type OpenNetwork<'a> = OpenEngine<'a, dyn NetworkRunner>;

/// Writes a generator, and the decoder behind it, to `path` as an ONNX file that carries `manifest`, and the report of its
/// verification, a model card and a sheet of samples beside it.
///
/// The model is written into a folder of its own first; each of `engines` gets its path there and returns an engine to
/// verify it with, in addition to candle-onnx. Only a model that passes takes the name `path`. The weights are never in
/// memory twice: they are written one after another, the networks are dropped before the first engine is loaded, and each
/// engine before the next.
///
/// # Errors
/// Everything that [`model`](crate::model()) and [`verify`](crate::verify()) report, no engine, a file that cannot be
/// written, and [`Error::Verification`] if an engine disagrees; then `path` and an older report are left as they were.
pub fn export(
    path: &Path,
    network: impl Into<OwnedModel>,
    manifest: &Manifest,
    settings: &ExportSettings,
    engines: Vec<Open<'_>>,
) -> Result<Report> {
    let network = network.into();
    settings.validate()?;
    network.model().check(manifest)?;
    let mut sheet = None;
    let report = write_verified(path, &path.with_file_name(REPORT_FILE), |unverified| {
        let files = write_model(unverified, manifest, &network.model().tensors(), settings)?;
        let file = ModelFile::open(unverified)?;
        let mut verification = Images::verification(&file, network.model())?;
        sheet = Sheet::make(network.model(), manifest)?;
        drop(network);
        verification.ask(&file, unverified, engines)?;
        Ok((verification.finish(), files))
    })?;
    card::write(path, sheet.as_ref(), manifest, &report)?;
    Ok(report)
}

/// As [`export`], for an encoder or a decoder alone. The report's name follows the file's, since such a file often lies
/// beside a generator.
///
/// # Errors
/// As [`export`].
pub fn export_network(
    path: &Path,
    network: Network<'_>,
    manifest: &NetworkManifest,
    settings: &ExportSettings,
    engines: Vec<OpenNetwork<'_>>,
) -> Result<Report> {
    settings.validate()?;
    write_verified(path, &path.with_extension(REPORT_FILE), |unverified| {
        let files = write_network(unverified, manifest, &network.tensors(), settings)?;
        let file = ModelFile::open(unverified)?;
        let mut verification = Maps::verification(&file, network)?;
        verification.ask(&file, unverified, engines)?;
        Ok((verification.finish(), files))
    })
}

/// Calls `make` with a path in another folder, where it writes a model; the files that it names become those at `path`, and
/// `report` is written, if its report has nothing against it.
fn write_verified(
    path: &Path,
    report: &Path,
    make: impl FnOnce(&Path) -> Result<(Report, Vec<PathBuf>)>,
) -> Result<Report> {
    let place = |source| Error::Models(drifting_models::Error::Io { path: path.to_owned(), source });
    let folder = path.with_extension("unverified");
    remove(&folder).and_then(|()| fs::create_dir_all(&folder)).map_err(place)?;
    let made = make(&folder.join(path.file_name().unwrap_or_default()));
    let installed = made.and_then(|(found, files)| {
        let found = found.into_result()?;
        install(&files, path).map_err(place)?;
        Ok(found)
    });
    // What matters is whether the model was verified; a folder that stays behind says by its name what it is.
    let _ = remove(&folder);
    let found = installed?;
    found.write(report)?;
    Ok(found)
}

/// Moves the files of a model to `path` and syncs its folder.
fn install(files: &[PathBuf], path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let data = path.with_file_name(format!("{name}{DATA_ENDING}"));
    if files.len() > 1 {
        // An older model must not stand beside the new weights, not even between two renamings.
        there(fs::remove_file(path))?;
    }
    for file in files.iter().rev() {
        fs::rename(file, path.with_file_name(file.file_name().unwrap_or_default()))?;
    }
    if files.len() == 1 {
        // The weights of an older model that lay in a file of their own.
        there(fs::remove_file(&data))?;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn remove(folder: &Path) -> io::Result<()> {
    there(fs::remove_dir_all(folder))
}

/// What is not there need not be removed.
fn there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
