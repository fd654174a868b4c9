//! What lies beside an exported model for people: `MODEL_CARD.md` and a sheet of samples.

mod samples;
mod text;

use std::path::Path;

use drifting_models::weights;
use drifting_spec::Manifest;

use crate::{Report, Result};

pub(crate) use samples::Sheet;

/// Name of the description beside the model.
pub const CARD_FILE: &str = "MODEL_CARD.md";

/// Name of the sheet of samples beside the model.
pub const SAMPLES_FILE: &str = "samples.png";

/// Writes the description of the model at `path`, and the sheet of its images if they are pictures.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(path: &Path, sheet: Option<&Sheet>, manifest: &Manifest, report: &Report) -> Result<()> {
    if let Some(sheet) = sheet {
        weights::write_bytes(&path.with_file_name(SAMPLES_FILE), &sheet.png)?;
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let card = text::card(&file, manifest, report, sheet)?;
    Ok(weights::write_bytes(&path.with_file_name(CARD_FILE), card.as_bytes())?)
}
