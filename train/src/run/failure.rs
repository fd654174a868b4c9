//! Numbers that are not finite: which step, which images.

use std::fs;
use std::path::PathBuf;

use drifting_models::weights::write_bytes;
use serde_json::json;

use super::{Experiment, RunError, RunFolder};

/// Dataset indices that a message has room for; `failure.json` has all of them.
const SHOWN: usize = 8;

fn file(folder: &RunFolder) -> PathBuf {
    folder.path().join("failure.json")
}

/// Takes away what an earlier call wrote down.
pub(super) fn forget(folder: &RunFolder) -> Result<(), RunError> {
    let path = file(folder);
    if path.exists() { fs::remove_file(&path).map_err(RunError::io(&path)) } else { Ok(()) }
}

/// Adds the step and its images to an error of their numbers, and writes them down. The checkpoints stay as they are.
pub(super) fn explain(error: RunError, experiment: &dyn Experiment, folder: &RunFolder) -> RunError {
    let ids = experiment.batch_ids();
    let numbers = matches!(error, RunError::Computation(_) | RunError::Optimizer(_));
    if !numbers || ids.is_empty() {
        return error;
    }
    let step = experiment.step_count() + 1;
    let path = file(folder);
    let report = json!({ "step": step, "problem": error.to_string(), "images": ids });
    // The error itself matters more than whether it could be written down.
    let written = write_bytes(&path, format!("{report:#}\n").as_bytes()).is_ok();
    let first: Vec<_> = ids.iter().take(SHOWN).map(u64::to_string).collect();
    let more = if ids.len() > SHOWN { ", ..." } else { "" };
    let all = if written { format!("; all of them in {}", path.display()) } else { String::new() };
    let images = format!("{} images of the data: {}{more}{all}", ids.len(), first.join(", "));
    RunError::Step { step, images, source: Box::new(error) }
}
