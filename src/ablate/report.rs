//! What came out of the variants.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use drifting_train::eval::QualityReport;
use serde::Serialize;

use super::plan::Plan;

/// One finished run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) variant: String,
    pub(super) seed: u64,
    pub(super) step: u64,
    pub(super) quality: QualityReport,
}

/// A claim and what became of it.
#[derive(Clone, Debug, Serialize)]
struct Verdict {
    better: String,
    worse: String,
    tolerance: f64,
    /// `None` while one of the two is not finished.
    holds: Option<bool>,
}

/// All runs and claims.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    name: String,
    data_sha256: String,
    runs: Vec<Measured>,
    verdicts: Vec<Verdict>,
}

impl Report {
    pub(super) fn new(plan: &Plan, data_sha256: &str, runs: Vec<Measured>) -> Self {
        let means = means(&runs);
        let verdicts = plan.claims.iter().map(|claim| {
            let pair = means.get(&claim.better).zip(means.get(&claim.worse));
            Verdict {
                better: claim.better.clone(),
                worse: claim.worse.clone(),
                tolerance: claim.tolerance,
                holds: pair.map(|(better, worse)| *better < worse * (1.0 + claim.tolerance)),
            }
        });
        Self { name: plan.name.clone(), data_sha256: data_sha256.to_owned(), verdicts: verdicts.collect(), runs }
    }

    /// Whether no claim is open or refuted.
    pub(super) fn all_hold(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.holds == Some(true))
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", self.name);
        text.push_str("| variant | seed | steps | Fréchet distance | recognised | diversity | least |\n");
        text.push_str("|---|---|---|---|---|---|---|\n");
        for Measured { variant, seed, step, quality } in &self.runs {
            let QualityReport { accuracy, diversity, min_diversity, frechet, .. } = quality;
            let _ = writeln!(
                text,
                "| {variant} | {seed} | {step} | {:.2} | {:.1} % | {diversity:.2} | {min_diversity:.2} |",
                frechet.distance,
                100.0 * accuracy
            );
        }
        if let Some(Measured { quality, .. }) = self.runs.first() {
            let frechet = &quality.frechet;
            let _ = writeln!(
                text,
                "\nFréchet distances in the features of the judge (a CNN that was trained on the real images and that no \
                 generator saw): {} generated against {} real images; real against real ({} images) {:.2}. The judge \
                 recognises {:.1} % of real test images. Data {}.",
                frechet.images,
                frechet.reference_images,
                frechet.floor_images,
                frechet.floor,
                100.0 * quality.judge_accuracy,
                &self.data_sha256[..self.data_sha256.len().min(12)],
            );
        }
        text.push('\n');
        for Verdict { better, worse, tolerance, holds } in &self.verdicts {
            let relation = if *tolerance > 0.0 { "is no worse than" } else { "is better than" };
            let verdict = match holds {
                Some(true) => "holds",
                Some(false) => "**does not hold**",
                None => "open: not trained yet",
            };
            let _ = writeln!(text, "- {better} {relation} {worse}: {verdict}");
        }
        text
    }
}

/// Mean Fréchet distance of each variant over its seeds.
fn means(runs: &[Measured]) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for Measured { variant, quality, .. } in runs {
        let (sum, count) = sums.entry(variant.clone()).or_default();
        (*sum, *count) = (*sum + quality.frechet.distance, *count + 1.0);
    }
    sums.into_iter().map(|(variant, (sum, count))| (variant, sum / count)).collect()
}
