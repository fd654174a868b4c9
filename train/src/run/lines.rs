//! `metrics.jsonl` and `evaluation.jsonl`: one line every few steps.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use drifting_models::weights::write_bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Report, RunError};

/// An open file of lines, each with its step.
pub(super) struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// Opens the file and drops the lines of steps after `step`: a run that was stopped hard takes them again.
    pub(super) fn open(path: &Path, step: u64) -> Result<Self, RunError> {
        #[derive(Deserialize)]
        struct Step {
            step: u64,
        }
        if path.exists() {
            let text = fs::read_to_string(path).map_err(RunError::io(path))?;
            let past = |line: &&str| serde_json::from_str::<Step>(line).is_ok_and(|line| line.step <= step);
            let kept: String = text.lines().filter(past).flat_map(|line| [line, "\n"]).collect();
            if kept != text {
                write_bytes(path, kept.as_bytes())?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(RunError::io(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds the line of `step`.
    pub(super) fn write(&mut self, step: u64, values: &Map<String, Value>) -> Result<(), RunError> {
        let mut line = Map::from_iter([("step".to_owned(), json!(step))]);
        line.extend(values.clone());
        let text = format!("{}\n", Value::Object(line));
        self.file.write_all(text.as_bytes()).map_err(RunError::io(&self.path))
    }
}

/// The figures of a step with its rates.
pub(super) fn metrics(report: &Report, images_per_step: usize) -> Map<String, Value> {
    let (images, seconds) = (images_per_step as u64, report.wall.as_secs_f64());
    let mut line = Map::new();
    line.insert("images".into(), json!(report.step * images));
    line.insert("seconds_per_step".into(), json!(seconds));
    line.insert("images_per_second".into(), json!(images as f64 / seconds.max(1e-9)));
    line.insert("data_wait_seconds".into(), json!(report.data_wait.as_secs_f64()));
    line.extend(report.metrics.clone());
    line
}

/// The lines of a file in their order; none when there is no such file. Broken lines are left out.
pub(super) fn read(path: &Path) -> Result<Vec<Map<String, Value>>, RunError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).map_err(RunError::io(path))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
