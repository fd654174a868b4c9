//! Numbers that are not finite: which step, which images.

use drifting_models::weights::write_bytes;
use serde_json::json;

use super::{Experiment, RunError, RunFolder};

/// Dataset indices that a message has room for; `failure.json` has all of them.
const SHOWN: usize = 8;

/// Adds the step and its images to an error of a step, and writes them down. The checkpoints stay as they are.
pub(super) fn explain(error: RunError, experiment: &dyn Experiment, folder: &RunFolder) -> RunError {
    let ids = experiment.batch_ids();
    if ids.is_empty() {
        return error;
    }
    let step = experiment.step_count() + 1;
    let path = folder.path().join("failure.json");
    let report = json!({ "step": step, "problem": error.to_string(), "images": ids });
    // The error itself matters more than whether it could be written down.
    let written = write_bytes(&path, format!("{report:#}\n").as_bytes()).is_ok();
    let first: Vec<_> = ids.iter().take(SHOWN).map(u64::to_string).collect();
    let more = if ids.len() > SHOWN { ", ..." } else { "" };
    let file = if written { format!("; all of them in {}", path.display()) } else { String::new() };
    let images = format!("{} images of the data: {}{more}{file}", ids.len(), first.join(", "));
    RunError::Step { step, images, source: Box::new(error) }
}
