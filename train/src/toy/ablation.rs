//! What becomes of the drift when its anti-symmetry is broken (paper Table 1; seed documents).

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use drifting_models::weights::write_bytes;

use super::picture::{self, Panel};
use super::{Ablation, ToyConfig, ToyMetrics, ToyTrainer};
use crate::run::{self, Launch, Observer, RunError};
use crate::trainer::TrainError;

/// Side of a panel in pixels.
const SIDE: usize = 240;
/// Panels in a row.
const COLUMNS: usize = 3;

/// How the runs of all ablations ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ablations {
    /// All have taken all their steps.
    Finished {
        /// A Markdown table of their measures.
        table: PathBuf,
        /// Their points, in the order of the table.
        picture: PathBuf,
    },
    /// They were asked to stop; the same call goes on.
    Stopped,
}

/// Trains every ablation of `config` in a folder of its own in that of `launch`, one after another, and compares them.
///
/// # Errors
/// As [`run::train`].
pub fn run_ablations(
    config: &ToyConfig,
    launch: &Launch<'_>,
    observer: &mut dyn Observer,
) -> Result<Ablations, RunError> {
    let mut results = Vec::new();
    let mut reference = None;
    for ablation in &config.ablations {
        let folder = launch.folder.join(&ablation.name);
        let mut trainer = ToyTrainer::new(config.ablated(ablation))?;
        let outcome = run::train(&mut trainer, &Launch { folder: &folder, ..*launch }, observer)?;
        if !outcome.finished || launch.stop.load(Ordering::Relaxed) {
            return Ok(Ablations::Stopped);
        }
        results.push(AblationResult::of(ablation, &trainer)?);
        reference.get_or_insert_with(|| trainer.reference());
    }
    let (table_path, picture_path) = (launch.folder.join("table.md"), launch.folder.join("ablations.png"));
    if let (Some(reference), Some(png)) = (reference, panels(&results)) {
        write_bytes(&table_path, table(&results, &reference).as_bytes())?;
        write_bytes(&picture_path, &png)?;
        observer.wrote(&table_path);
        observer.wrote(&picture_path);
    }
    Ok(Ablations::Finished { table: table_path, picture: picture_path })
}

/// How one ablation ended.
#[derive(Clone, Debug)]
struct AblationResult {
    /// Its settings.
    ablation: Ablation,
    /// Measures of its points.
    metrics: ToyMetrics,
    panel: Panel,
    extent: f32,
}

impl AblationResult {
    /// Measures a run that has ended.
    fn of(ablation: &Ablation, trainer: &ToyTrainer) -> Result<Self, TrainError> {
        let panel = Panel { data: trainer.data(), samples: trainer.samples()?, arrows: Vec::new() };
        let metrics = ToyMetrics::of(&panel.samples, &panel.data, &trainer.config().toy.target);
        Ok(Self { ablation: ablation.clone(), metrics, panel, extent: trainer.extent() })
    }
}

/// One Markdown table of all results, with a row for points of the target itself.
fn table(results: &[AblationResult], reference: &ToyMetrics) -> String {
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
fn panels(results: &[AblationResult]) -> Option<Vec<u8>> {
    let extent = results.iter().map(|result| result.extent).fold(f32::MIN_POSITIVE, f32::max);
    let panels: Vec<_> = results.iter().map(|result| result.panel.clone()).collect();
    picture::draw(&panels, COLUMNS, SIDE, extent)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use super::super::config::tests::SMALL;
    use super::*;
    use crate::config::RunSettings;
    use crate::ranks::Alone;
    use crate::run::{Build, Report};

    struct Silent;

    impl Observer for Silent {
        fn started(&mut self, _: u64, _: &dyn RunSettings) {}
        fn stepped(&mut self, _: &Report) {}
        fn wrote(&mut self, path: &Path) {
            assert!(path.exists());
        }
    }

    #[test]
    fn without_repulsion_the_points_gather_and_the_table_says_so() {
        let config: ToyConfig = toml::from_str(SMALL).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (stop, build) = (AtomicBool::new(false), Build::default());
        let launch = Launch {
            folder: folder.path(),
            allow_changed: &[],
            build: &build,
            command: &[],
            stop: &stop,
            ranks: &Alone,
        };
        let found = run_ablations(&config, &launch, &mut Silent).unwrap();
        let Ablations::Finished { table, picture } = &found else { panic!("{found:?}") };
        let text = std::fs::read_to_string(table).unwrap();
        let last = |line: &str| line.trim_end_matches(" |").rsplit(" | ").next().unwrap().parse::<f64>().unwrap();
        let to_samples: Vec<f64> = text.lines().skip(2).map(last).collect();
        let [baseline, only, data] = to_samples[..] else { panic!("{text}") };
        assert!(only > 1.2 * baseline && baseline > data, "{text}");
        assert!(std::fs::read(picture).unwrap().starts_with(b"\x89PNG"));
        assert!(folder.path().join("attraction_only/latest").is_file());
        let before = std::fs::metadata(folder.path().join("baseline/latest")).unwrap().modified().unwrap();
        assert_eq!(run_ablations(&config, &launch, &mut Silent).unwrap(), found, "finished runs are not taken again");
        assert_eq!(std::fs::metadata(folder.path().join("baseline/latest")).unwrap().modified().unwrap(), before);
        assert_eq!(std::fs::read_to_string(table).unwrap(), text);
    }
}
