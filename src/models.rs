//! Generators from wherever a person points to.

use std::path::Path;

use anyhow::{Context, Result, bail};
use drifting_train::run::{ModelFile, RunFolder};

use crate::shipped::{self, Shipped};

/// The weights behind `path`: a run folder (its last checkpoint), a weight file, or the name of a shipped model.
pub(crate) fn open(path: &Path, ema: Option<f64>) -> Result<ModelFile> {
    if path.is_dir() {
        let folder = RunFolder::open(path)?;
        let config = folder.config()?;
        let checkpoint = folder.latest()?;
        let checkpoint = checkpoint.with_context(|| format!("{} has no checkpoint yet", path.display()))?;
        return Ok(checkpoint.average(&config.ema.decays, ema)?);
    }
    if let (false, Some(shipped)) = (path.exists(), Shipped::named(path)) {
        let folder = shipped::cache()?;
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        return shipped.open(&folder);
    }
    if !path.exists() {
        bail!("{} is not there; expected a run folder, a weight file or `fashion`", path.display());
    }
    if ema.is_some() {
        bail!("--ema chooses among the averages of a run folder; {} is a file", path.display());
    }
    Ok(ModelFile::read(path)?)
}
