//! The whole way from a generator to a verified file.

use std::fs::{self, File};
use std::path::Path;

use drifting_models::{Generator, weights};
use drifting_spec::Manifest;

use crate::verify::{Report, Runner, same_generator, verify};
use crate::{BoxError, Error, ExportSettings, Result, card, model};

/// Name of the report beside the model.
pub const REPORT_FILE: &str = "verify.json";

/// Writes `generator` to `path` as an ONNX file that carries `manifest`, and the report of its verification,
/// a model card and a sheet of samples beside it.
///
/// The model is written under another name first; `open` gets that path and returns the engines to verify it with, in
/// addition to candle-onnx. Only a model that passes takes the name `path`.
///
/// # Errors
/// Everything that [`model`](crate::model()) and [`verify`] report, no engine, a file that cannot be written, and
/// [`Error::Verification`] if an engine disagrees; then `path` and an older report are left as they were.
pub fn export(
    path: &Path,
    generator: &Generator,
    manifest: &Manifest,
    settings: &ExportSettings,
    open: impl FnOnce(&Path) -> std::result::Result<Vec<Box<dyn Runner>>, BoxError>,
) -> Result<Report> {
    same_generator(&manifest.generator, generator.config())?;
    let bytes = model(manifest, &generator.params().tensors(), settings)?;
    let unverified = path.with_extension("unverified.onnx");
    weights::write_bytes(&unverified, &bytes)?;
    let report = open(&unverified)
        .map_err(Error::Engine)
        .and_then(|mut runners| verify(&bytes, generator, &mut runners))
        .and_then(Report::into_result);
    match report {
        Ok(report) => {
            rename(&unverified, path).map_err(|source| drifting_models::Error::Io { path: path.to_owned(), source })?;
            report.write(&path.with_file_name(REPORT_FILE))?;
            card::write(path, generator, manifest, &report)?;
            Ok(report)
        }
        Err(error) => {
            // The failure is what matters; a file that stays behind says by its name what it is.
            let _ = fs::remove_file(&unverified);
            Err(error)
        }
    }
}

/// Renames a file and syncs its folder.
fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::rename(from, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
