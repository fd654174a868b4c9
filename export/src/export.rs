//! The whole way from a network to a verified file.

use std::fs::{self, File};
use std::path::Path;

use drifting_models::weights;
use drifting_spec::{Manifest, NetworkManifest};

use crate::verify::{NetworkRunner, Report, Runner, verify, verify_network};
use crate::{BoxError, Error, ExportSettings, ImageModel, Network, Result, card, model, network_model};

/// Name of the report beside the model.
pub const REPORT_FILE: &str = "verify.json";

/// Writes a generator, and the decoder behind it, to `path` as an ONNX file that carries `manifest`, and the report of its
/// verification, a model card and a sheet of samples beside it.
///
/// The model is written under another name first; `open` gets that path and returns the engines to verify it with, in
/// addition to candle-onnx. Only a model that passes takes the name `path`.
///
/// # Errors
/// Everything that [`model`](crate::model()) and [`verify`] report, no engine, a file that cannot be written, and
/// [`Error::Verification`] if an engine disagrees; then `path` and an older report are left as they were.
pub fn export<'a>(
    path: &Path,
    network: impl Into<ImageModel<'a>>,
    manifest: &Manifest,
    settings: &ExportSettings,
    open: impl FnOnce(&Path) -> std::result::Result<Vec<Box<dyn Runner>>, BoxError>,
) -> Result<Report> {
    let network = network.into();
    network.check(manifest)?;
    let bytes = model(manifest, &network.tensors(), settings)?;
    let report = write_verified(path, &path.with_file_name(REPORT_FILE), &bytes, |unverified| {
        verify(&bytes, network, &mut open(unverified).map_err(Error::Engine)?)
    })?;
    card::write(path, network, manifest, &report)?;
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
    open: impl FnOnce(&Path) -> std::result::Result<Vec<Box<dyn NetworkRunner>>, BoxError>,
) -> Result<Report> {
    let bytes = network_model(manifest, &network.tensors(), settings)?;
    write_verified(path, &path.with_extension(REPORT_FILE), &bytes, |unverified| {
        verify_network(&bytes, network, &mut open(unverified).map_err(Error::Engine)?)
    })
}

/// Writes `bytes` under another name; `path` becomes theirs, and `report` is written, if `verify` has nothing against it.
fn write_verified(
    path: &Path,
    report: &Path,
    bytes: &[u8],
    verify: impl FnOnce(&Path) -> Result<Report>,
) -> Result<Report> {
    let unverified = path.with_extension("unverified.onnx");
    weights::write_bytes(&unverified, bytes)?;
    match verify(&unverified).and_then(Report::into_result) {
        Ok(found) => {
            rename(&unverified, path).map_err(|source| drifting_models::Error::Io { path: path.to_owned(), source })?;
            found.write(report)?;
            Ok(found)
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
