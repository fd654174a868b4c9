//! What becomes of the drift when its anti-symmetry is broken (paper Table 1; seed documents).

use std::fmt::Write;

use super::picture::{self, Panel};
use super::{Ablation, ToyMetrics, ToyTrainer};
use crate::trainer::TrainError;

/// Side of a panel in pixels.
const SIDE: usize = 240;
/// Panels in a row.
const COLUMNS: usize = 3;

/// How one ablation ended.
#[derive(Clone, Debug)]
pub struct AblationResult {
    /// Its settings.
    pub ablation: Ablation,
    /// Measures of its points.
    pub metrics: ToyMetrics,
    panel: Panel,
    extent: f32,
}

impl AblationResult {
    /// Measures a run that has ended.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn of(ablation: &Ablation, trainer: &ToyTrainer) -> Result<Self, TrainError> {
        let panel = Panel { data: trainer.data(), samples: trainer.samples()?, arrows: Vec::new() };
        let metrics = ToyMetrics::of(&panel.samples, &panel.data, &trainer.config().toy.target);
        Ok(Self { ablation: ablation.clone(), metrics, panel, extent: trainer.extent() })
    }
}

/// One Markdown table of all results, with a row for points of the target itself.
#[must_use]
pub fn table(results: &[AblationResult], reference: &ToyMetrics) -> String {
    let mut text =
        "| run | attraction | repulsion | coverage | mode balance error | mean distance to the nearest centre | \
        distance of the means | samples to data | data to samples |\n|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for AblationResult { ablation, metrics, .. } in results {
        let factors = [ablation.attraction, ablation.repulsion].map(|factor| factor.to_string());
        row(&mut text, &ablation.name, &factors, metrics);
    }
    row(&mut text, "points of the target", &[String::new(), String::new()], reference);
    text
}

fn row(text: &mut String, name: &str, factors: &[String; 2], metrics: &ToyMetrics) {
    let [attraction, repulsion] = factors;
    let modes = metrics.modes.as_ref().map_or_else(
        || " | | | ".to_owned(),
        |modes| {
            let coverage: Vec<_> = modes.coverage.iter().map(|share| format!("{share:.3}")).collect();
            let (balance, distance, center) =
                (modes.mode_balance_error, modes.mean_distance_to_target, modes.center_distance);
            format!("{} | {balance:.3} | {distance:.3} | {center:.3}", coverage.join(" / "))
        },
    );
    let (there, back) = (metrics.samples_to_data, metrics.data_to_samples);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| {name} | {attraction} | {repulsion} | {modes} | {there:.3} | {back:.3} |");
}

/// A PNG with the points of every result over the data, in their order; `None` for an empty picture.
#[must_use]
pub fn panels(results: &[AblationResult]) -> Option<Vec<u8>> {
    let extent = results.iter().map(|result| result.extent).fold(f32::MIN_POSITIVE, f32::max);
    let panels: Vec<_> = results.iter().map(|result| result.panel.clone()).collect();
    picture::draw(&panels, COLUMNS, SIDE, extent)
}

#[cfg(test)]
mod tests {
    use super::super::ToyConfig;
    use super::super::config::tests::SMALL;
    use super::*;

    #[test]
    fn without_repulsion_the_points_gather_and_the_table_says_so() {
        let config: ToyConfig = toml::from_str(SMALL).unwrap();
        let mut reference = None;
        let results: Vec<_> = config
            .ablations
            .iter()
            .map(|ablation| {
                let mut trainer = ToyTrainer::new(config.ablated(ablation)).unwrap();
                (0..config.steps).for_each(|_| {
                    trainer.step().unwrap();
                });
                reference = Some(ToyMetrics::of(&trainer.data(), &trainer.data(), &config.toy.target));
                AblationResult::of(ablation, &trainer).unwrap()
            })
            .collect();
        let [baseline, only] = &results[..] else { panic!("two runs") };
        let coverage = |result: &AblationResult| result.metrics.data_to_samples;
        assert!(coverage(only) > 1.2 * coverage(baseline), "{} {}", coverage(only), coverage(baseline));
        let table = table(&results, &reference.unwrap());
        assert!(table.contains("| attraction_only | 1 | 0 | 0.") && table.lines().count() == 5, "{table}");
        assert!(panels(&results).is_some_and(|png| png.starts_with(b"\x89PNG")));
    }
}
