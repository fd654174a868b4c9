//! The whole way from a generator to a verified file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use drifting_models::Generator;
use drifting_spec::Manifest;

use crate::card::{self, Sheet};
use crate::graph::DATA_ENDING;
use crate::verify::{CandleOnnx, ModelFile, Report, Runner, Verification, same_generator};
use crate::{BoxError, Error, ExportSettings, Profile, Result, write_model};

/// Name of the report beside the model.
pub const REPORT_FILE: &str = "verify.json";

/// Loads the model at a path into an engine.
pub type Open<'a> = Box<dyn FnOnce(&Path) -> std::result::Result<Box<dyn Runner>, BoxError> + 'a>;

/// Writes `generator` to `path` as an ONNX file that carries `manifest`, and the report of its verification,
/// a model card and a sheet of samples beside it.
///
/// The model is written into a folder of its own first; each of `engines` gets that path and returns an engine to verify
/// it with, in addition to candle-onnx. Only a model that passes takes the name `path`. The weights are never in memory
/// twice: they are written one after another, the generator is dropped before the first engine is loaded, and each engine
/// before the next.
///
/// # Errors
/// Everything that [`model`](crate::model()) and [`verify`](crate::verify()) report, no engine, a file that cannot be
/// written, and [`Error::Verification`] if an engine disagrees; then `path` and an older report are left as they were.
pub fn export(
    path: &Path,
    generator: Generator,
    manifest: &Manifest,
    settings: &ExportSettings,
    engines: Vec<Open<'_>>,
) -> Result<Report> {
    settings.validate()?;
    same_generator(&manifest.generator, generator.config())?;
    let place = |source| Error::Models(drifting_models::Error::Io { path: path.to_owned(), source });
    let folder = path.with_extension("unverified");
    remove(&folder).and_then(|()| fs::create_dir_all(&folder)).map_err(place)?;
    let unverified = folder.join(path.file_name().unwrap_or_default());
    let verified = Stage { path: &unverified, manifest, settings }.run(generator, engines);
    let installed = verified.and_then(|verified| {
        install(&verified.files, path).map_err(place)?;
        Ok(verified)
    });
    // What matters is whether the model was verified; a folder that stays behind says by its name what it is.
    let _ = remove(&folder);
    let Verified { report, sheet, .. } = installed?;
    report.write(&path.with_file_name(REPORT_FILE))?;
    card::write(path, sheet.as_ref(), manifest, &report)?;
    Ok(report)
}

/// An export that has not been verified yet.
struct Stage<'a> {
    path: &'a Path,
    manifest: &'a Manifest,
    settings: &'a ExportSettings,
}

struct Verified {
    report: Report,
    sheet: Option<Sheet>,
    files: Vec<PathBuf>,
}

impl Stage<'_> {
    fn run(&self, generator: Generator, engines: Vec<Open<'_>>) -> Result<Verified> {
        let files = write_model(self.path, self.manifest, &generator.params().tensors(), self.settings)?;
        let file = ModelFile::open(self.path)?;
        let mut verification = Verification::start(&file, &generator)?;
        let sheet = Sheet::make(&generator, self.manifest)?;
        drop(generator);
        match CandleOnnx::why_not(&file) {
            Some(reason) => verification.note(format!("candle-onnx was not asked: {reason}")),
            None => verification.run(&mut CandleOnnx::new(&file)?),
        }
        if self.settings.profile == Profile::Bf16 {
            verification.note("no image was compared: TensorRT and CUDA run bfloat16, no engine on a CPU does".into());
        } else {
            for open in engines {
                verification.run(open(self.path).map_err(Error::Engine)?.as_mut());
            }
        }
        Ok(Verified { report: verification.finish().into_result()?, sheet, files })
    }
}

/// Moves the files of a model to `path` and syncs its folder.
fn install(files: &[PathBuf], path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let data = path.with_file_name(format!("{name}{DATA_ENDING}"));
    if files.len() > 1 {
        // An older model must not stand beside the new weights, not even between two renamings.
        remove_file(path)?;
    }
    for file in files.iter().rev() {
        fs::rename(file, path.with_file_name(file.file_name().unwrap_or_default()))?;
    }
    if files.len() == 1 {
        // The weights of an older model that lay in a file of their own.
        remove_file(&data)?;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn remove_file(path: &Path) -> io::Result<()> {
    there(fs::remove_file(path))
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
