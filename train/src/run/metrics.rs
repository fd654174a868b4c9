//! `metrics.jsonl`: one line every few steps.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use drifting_models::weights::write_bytes;
use serde::{Deserialize, Serialize};

use super::RunError;
use crate::config::TrainConfig;
use crate::trainer::{KeyMetrics, StepReport};

#[derive(Serialize)]
struct Line<'a> {
    step: u64,
    images: u64,
    gradient_norm: f64,
    lr: f64,
    alpha: f32,
    seconds_per_step: f64,
    images_per_second: f64,
    data_wait_seconds: f64,
    /// Flat by construction: no measure of progress.
    loss: f64,
    keys: &'a BTreeMap<String, KeyMetrics>,
}

/// The open file.
pub(super) struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file and drops the lines of steps after `step`: a run that was stopped hard takes them again.
    pub(super) fn open(path: &Path, step: u64) -> Result<Self, RunError> {
        #[derive(Deserialize)]
        struct Step {
            step: u64,
        }
        if path.exists() {
            let text = std::fs::read_to_string(path).map_err(RunError::io(path))?;
            let past = |line: &&str| serde_json::from_str::<Step>(line).is_ok_and(|line| line.step <= step);
            let kept: String = text.lines().filter(past).flat_map(|line| [line, "\n"]).collect();
            if kept != text {
                write_bytes(path, kept.as_bytes())?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(RunError::io(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub(super) fn write(&mut self, report: &StepReport, config: &TrainConfig) -> Result<(), RunError> {
        let images = config.images_per_step() as u64;
        let seconds = report.wall.as_secs_f64();
        let line = Line {
            step: report.step,
            images: report.step * images,
            gradient_norm: report.gradient_norm,
            lr: report.lr,
            alpha: report.alpha,
            seconds_per_step: seconds,
            images_per_second: images as f64 / seconds.max(1e-9),
            data_wait_seconds: report.data_wait.as_secs_f64(),
            loss: report.loss,
            keys: &report.keys,
        };
        let mut json = serde_json::to_string(&line).map_err(|error| RunError::file(&self.path, error.to_string()))?;
        json.push('\n');
        self.file.write_all(json.as_bytes()).map_err(RunError::io(&self.path))
    }
}
