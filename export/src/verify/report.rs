//! The result of a verification, kept beside the model.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What was compared, how far apart it was, and what failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// SHA-256 of the model's bytes.
    pub model_sha256: String,
    /// Version of the tool that verified.
    pub tool_version: String,
    /// Parameters whose numbers were compared bit for bit.
    pub parameters: usize,
    /// Largest difference from candle that passes.
    pub tolerance: f32,
    /// candle's images.
    pub output: OutputRange,
    /// One entry for each engine.
    pub runners: Vec<RunnerReport>,
    /// What failed and by how much; empty if all is well.
    pub failures: Vec<String>,
}

/// Smallest and largest number of the images, and their standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputRange {
    /// Smallest.
    pub min: f32,
    /// Largest.
    pub max: f32,
    /// Standard deviation; 0 for a generator that was never trained.
    pub std: f32,
}

/// The answers of one engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunnerReport {
    /// Name and version of the engine.
    pub name: String,
    /// Comparison with candle by batch size.
    pub batches: Vec<BatchReport>,
    /// Largest difference between an image made alone and in the largest batch; absent if one of them failed.
    pub batch_invariance: Option<f32>,
    /// Runs that failed, and why.
    pub problems: Vec<String>,
}

/// The comparison for one batch size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchReport {
    /// Images in the batch.
    pub batch: usize,
    /// Largest difference from candle; absent if the engine failed.
    pub max_abs_diff: Option<f32>,
}

impl Report {
    /// Whether nothing failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// Itself, if nothing failed.
    ///
    /// # Errors
    /// [`Error::Verification`] with everything that failed.
    pub fn into_result(self) -> Result<Self> {
        if self.passed() { Ok(self) } else { Err(Error::Verification(Box::new(self))) }
    }

    /// Writes the report as JSON, with `passed` as its first entry.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        #[derive(Serialize)]
        struct File<'a> {
            passed: bool,
            #[serde(flatten)]
            report: &'a Report,
        }
        let file = File { passed: self.passed(), report: self };
        let mut json = serde_json::to_string_pretty(&file)
            .map_err(|error| drifting_models::Error::File { path: path.to_owned(), problem: error.to_string() })?;
        json.push('\n');
        Ok(drifting_models::weights::write_bytes(path, json.as_bytes())?)
    }
}

impl RunnerReport {
    /// What does not pass.
    pub(super) fn failures(&self, tolerance: f32) -> Vec<String> {
        let name = &self.name;
        let problems = self.problems.iter().map(|problem| format!("{name}: {problem}"));
        let batches = self.batches.iter().filter_map(|&BatchReport { batch, max_abs_diff }| {
            let difference = max_abs_diff.filter(|difference| *difference > tolerance)?;
            Some(format!(
                "{name}: batch of {batch}: largest difference from candle {difference:e}, allowed {tolerance:e}"
            ))
        });
        let invariance = self.batch_invariance.filter(|difference| *difference > tolerance).map(|difference| {
            format!("{name}: an image alone and in a batch differ by {difference:e}, allowed {tolerance:e}")
        });
        problems.chain(batches).chain(invariance).collect()
    }
}

impl OutputRange {
    pub(super) fn of(images: &[f32]) -> Self {
        let count = images.len().max(1) as f64;
        let mean = images.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let variance = images.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
        let (min, max) = images
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &value| (min.min(value), max.max(value)));
        Self { min, max, std: variance.sqrt() as f32 }
    }

    /// The largest absolute number.
    pub(super) fn largest(&self) -> f32 {
        self.min.abs().max(self.max.abs())
    }

    /// Whether all numbers are finite: a single one that is not leaves no finite deviation.
    pub(super) fn is_finite(&self) -> bool {
        self.std.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let output = OutputRange::of(&[-1.0, 0.0, 1.0]);
        Report {
            model_sha256: "ab".into(),
            tool_version: "0".into(),
            parameters: 3,
            tolerance: 1e-4,
            output,
            runners: Vec::new(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verify.json");
        report().write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\n  \"passed\": true,"), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    }

    #[test]
    fn failures_are_an_error_that_names_them() {
        assert_eq!(report().into_result().unwrap(), report());
        let failed = Report { failures: vec!["rten: batch of 2: no".into(), "x: y".into()], ..report() };
        let error = failed.into_result().unwrap_err().to_string();
        assert_eq!(error, "the export failed its verification: rten: batch of 2: no; x: y");
    }

    #[test]
    fn one_number_that_is_not_finite_is_seen() {
        assert!(OutputRange::of(&[0.0, 1.0]).is_finite());
        assert!(!OutputRange::of(&[0.0, f32::NAN, 1.0]).is_finite());
        assert!(!OutputRange::of(&[f32::INFINITY, 1.0]).is_finite());
    }
}
