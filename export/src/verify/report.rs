//! The result of a verification, kept beside the model.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::quality::Gate;
use crate::{Error, Profile, Result};

/// What was compared, how far apart it was, and what failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Spelling and numbers of the graph.
    #[serde(default)]
    pub profile: Profile,
    /// The one batch size that the model runs with, if it is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// SHA-256 of the model's bytes, with those of its second file behind them if its weights are there.
    pub model_sha256: String,
    /// Version of the tool that verified.
    pub tool_version: String,
    /// Parameters whose numbers were compared: bit for bit, or with those that the profile rounds them to.
    pub parameters: usize,
    /// Largest difference from candle that passes, unless images are judged by `least_psnr_db`.
    pub tolerance: f32,
    /// Least peak signal-to-noise ratio that passes in low precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_psnr_db: Option<f32>,
    /// candle's images.
    pub output: OutputRange,
    /// One entry for each engine.
    pub runners: Vec<RunnerReport>,
    /// What was not compared, and why.
    #[serde(default)]
    pub notes: Vec<String>,
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
    /// Largest difference between an image made alone and in a batch, or at two places of a fixed batch; absent if a run
    /// failed, and for a fixed batch of one.
    pub batch_invariance: Option<f32>,
    /// Mean of the absolute differences from candle.
    #[serde(default)]
    pub mean_abs_diff: Option<f32>,
    /// Peak signal-to-noise ratio against candle's: of the 8-bit images, or of latents against their range.
    #[serde(default)]
    pub psnr_db: Option<f32>,
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
    pub(super) fn failures(&self, gate: Gate) -> Vec<String> {
        let name = &self.name;
        let problems = self.problems.iter().map(|problem| format!("{name}: {problem}"));
        let differences = match gate.psnr {
            None => self.differences(gate.difference),
            Some(least) => {
                let far = self.psnr_db.filter(|psnr| *psnr < least);
                far.map(|psnr| format!("{name}: {psnr:.1} dB from candle's image, at least {least} are needed"))
                    .into_iter()
                    .collect()
            }
        };
        problems.chain(differences).collect()
    }

    fn differences(&self, tolerance: f32) -> Vec<String> {
        let name = &self.name;
        let batches = self.batches.iter().filter_map(|&BatchReport { batch, max_abs_diff }| {
            let difference = max_abs_diff.filter(|difference| *difference > tolerance)?;
            Some(format!(
                "{name}: batch of {batch}: largest difference from candle {difference:e}, allowed {tolerance:e}"
            ))
        });
        let invariance = self.batch_invariance.filter(|difference| *difference > tolerance).map(|difference| {
            format!("{name}: an image alone and in a batch differ by {difference:e}, allowed {tolerance:e}")
        });
        batches.chain(invariance).collect()
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
            profile: Profile::Fp16,
            batch: None,
            model_sha256: "ab".into(),
            tool_version: "0".into(),
            parameters: 3,
            tolerance: 1e-4,
            least_psnr_db: Some(40.0),
            output,
            runners: Vec::new(),
            notes: Vec::new(),
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
