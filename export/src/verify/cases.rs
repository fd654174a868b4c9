//! What an engine is asked for, and how far its answers are from candle's.

use std::collections::BTreeMap;

use drifting_spec::{Inputs, Manifest, pick};

use super::quality::{Levels, mean_difference};
use super::report::{BatchReport, RunnerReport};
use super::runner::Runner;

/// The seed of the noise.
const SEED: u64 = 17;

/// Numbers of a decoded image above which two images have to do.
const LARGE: usize = 3 * 128 * 128;

/// Five images (two if they are large and decoded) at the edges of class, style and alpha.
pub(super) struct Cases {
    pub(super) inputs: Inputs,
}

impl Cases {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let config = &manifest.generator;
        let (alpha, last) = (manifest.alpha, config.classes.saturating_sub(1));
        let conditions =
            [(0, alpha.min), (last, alpha.max), (0, alpha.max), (last, alpha.min), (last / 2, alpha.default)];
        // Large images take their time in every engine, and what is behind a generator knows neither class nor alpha.
        let large = manifest.decoder.is_some() && manifest.image().is_ok_and(|image| image.len() > LARGE);
        let count = if large { 2 } else { conditions.len() };
        let mut inputs = Inputs::seeded(config, SEED, &conditions[..count]);
        // The first image takes the first code of every style table, the second the last.
        let tokens = config.style_tokens;
        for (place, code) in inputs.style.iter_mut().zip((0..2 * tokens).map(|i| i / tokens)) {
            *place = (code * config.style_codes.saturating_sub(1)) as i64;
        }
        Self { inputs }
    }

    /// Runs all images in batches and compares with `expected`, candle's images.
    pub(super) fn compare(&self, runner: &mut dyn Runner, expected: &[f32], view: &View) -> RunnerReport {
        let name = runner.name().to_owned();
        let run = |rows: &[usize]| runner.run(&self.inputs.rows(rows)).map_err(|error| error.to_string());
        compare(name, self.inputs.batch(), expected, view, run)
    }
}

/// The batches that an engine is asked for: all rows at once, the first two, and each alone; if the batch is fixed, every
/// row at two places of a batch.
fn batches(all: usize, fixed: Option<usize>) -> Vec<Vec<usize>> {
    match fixed {
        None => {
            let pair = (all > 2).then(|| vec![0, 1]);
            [(0..all).collect()].into_iter().chain(pair).chain((0..all).map(|row| vec![row])).collect()
        }
        Some(size) => {
            let from = |start: usize| (start..start + size).map(|row| row % all).collect();
            let starts = (0..all).step_by(size.clamp(1, all));
            starts.clone().chain(starts.map(|start| start + 1).filter(|_| size > 1)).map(from).collect()
        }
    }
}

/// Runs `all` rows in batches with the engine `name` and compares with `expected`, which holds the same number of values
/// for each.
pub(super) fn compare(
    name: String,
    all: usize,
    expected: &[f32],
    view: &View,
    mut engine: impl FnMut(&[usize]) -> Result<Vec<f32>, String>,
) -> RunnerReport {
    let (mut problems, mut answers) = (Vec::new(), Answers::default());
    for rows in batches(all, view.fixed) {
        let wanted = pick(expected, all, &rows);
        match engine(&rows).and_then(|found| Ok((largest_difference(&found, &wanted)?, found))) {
            Ok((difference, found)) => answers.add(&rows, difference, &found),
            Err(problem) => problems.push(format!("batch of {}: {problem}", rows.len())),
        }
    }
    let (found, wanted) = answers.with(|row| pick(expected, all, &[row]));
    let compared = problems.is_empty();
    let batch_invariance = (compared && answers.twice).then_some(answers.invariance);
    RunnerReport {
        name,
        batches: answers.batches,
        batch_invariance,
        mean_abs_diff: compared.then(|| mean_difference(&found, &wanted)),
        psnr_db: compared.then(|| view.levels.psnr(&found, &wanted)),
        problems,
    }
}

/// How answers are looked at.
pub(super) struct View {
    /// The one batch size that the model runs with.
    pub(super) fixed: Option<usize>,
    pub(super) levels: Levels,
}

/// What an engine answered.
#[derive(Default)]
struct Answers {
    batches: Vec<BatchReport>,
    images: BTreeMap<usize, Vec<f32>>,
    /// Whether any image was asked for a second time, in another batch or at another place.
    twice: bool,
    /// The most that such an image differed from the first time.
    invariance: f32,
}

impl Answers {
    fn add(&mut self, rows: &[usize], difference: f32, found: &[f32]) {
        match self.batches.iter_mut().find(|report| report.batch == rows.len()) {
            Some(report) => report.max_abs_diff = report.max_abs_diff.map(|most| most.max(difference)),
            None => self.batches.push(BatchReport { batch: rows.len(), max_abs_diff: Some(difference) }),
        }
        for (place, &row) in rows.iter().enumerate() {
            let image = pick(found, rows.len(), &[place]);
            match self.images.get(&row) {
                Some(first) => {
                    self.twice = true;
                    self.invariance = self.invariance.max(largest_difference(&image, first).unwrap_or(f32::INFINITY));
                }
                None => drop(self.images.insert(row, image)),
            }
        }
    }

    /// The images, and what they should be.
    fn with(&self, expected: impl Fn(usize) -> Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        let found = self.images.values().flatten().copied().collect();
        (found, self.images.keys().flat_map(|&row| expected(row)).collect())
    }
}

fn largest_difference(found: &[f32], expected: &[f32]) -> Result<f32, String> {
    if found.len() != expected.len() {
        return Err(format!("{} numbers in the image, expected {}", found.len(), expected.len()));
    }
    if let Some(place) = found.iter().position(|value| !value.is_finite()) {
        return Err(format!("number {place} of the image is {}", found[place]));
    }
    Ok(found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}

#[cfg(test)]
mod tests {
    use drifting_spec::{AlphaRange, GeneratorConfig, ImageShape};

    use super::super::quality::Gate;
    use super::super::report::OutputRange;
    use super::*;
    use crate::BoxError;

    fn manifest() -> Manifest {
        let image = ImageShape { channels: 1, height: 2, width: 2 };
        let generator = GeneratorConfig { style_tokens: 3, ..GeneratorConfig::new(image, 2, 8, 1, 1, 10) };
        let alpha = AlphaRange { min: 1.0, max: 4.0, default: 1.5 };
        Manifest::new("test".into(), generator, alpha)
    }

    fn cases() -> Cases {
        Cases::new(&manifest())
    }

    /// What a test does to an image of a batch of this size.
    type Change = fn(&mut Vec<f32>, usize);

    /// Gives the noise back, changed as a test wants it.
    struct Echo(Change);

    impl Runner for Echo {
        fn name(&self) -> &str {
            "echo"
        }

        fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, BoxError> {
            let mut image = inputs.noise.clone();
            (self.0)(&mut image, inputs.batch());
            if image.is_empty() { Err("out of paper".into()) } else { Ok(image) }
        }
    }

    fn compare_fixed(change: Change, fixed: Option<usize>) -> RunnerReport {
        let cases = cases();
        let output = OutputRange { min: -1.0, max: 1.0, std: 1.0 };
        let levels = Levels::of_images(ImageShape { channels: 1, height: 2, width: 2 }, [-1.0, 1.0], output);
        let view = View { fixed, levels };
        cases.compare(&mut Echo(change), &cases.inputs.noise, &view)
    }

    fn compare(change: Change) -> RunnerReport {
        compare_fixed(change, None)
    }

    fn gate(difference: f32) -> Gate {
        Gate { difference, psnr: None }
    }

    #[test]
    fn the_edges_are_asked_for() {
        let inputs = cases().inputs;
        assert_eq!(inputs.class, [0, 9, 0, 9, 4]);
        assert_eq!(inputs.alpha, [1.0, 4.0, 4.0, 1.0, 1.5]);
        assert_eq!(inputs.style[..6], [0, 0, 0, 63, 63, 63]);
        assert_eq!(cases().inputs.rows(&[1]).style, [63, 63, 63]);
    }

    #[test]
    fn an_engine_that_agrees_passes() {
        let report = compare(|_, _| ());
        assert_eq!(report.failures(gate(1e-4)), Vec::<String>::new());
        assert_eq!(report.batches.iter().map(|batch| batch.batch).collect::<Vec<_>>(), [5, 2, 1]);
        assert_eq!((report.mean_abs_diff, report.psnr_db), (Some(0.0), Some(100.0)));
        assert_eq!(report.batch_invariance, Some(0.0));
    }

    #[test]
    fn a_difference_is_named_with_its_batch_and_size() {
        let report = compare(|image, batch| image[0] += if batch == 2 { 0.5 } else { 0.0 });
        let failures = report.failures(gate(1e-4));
        assert_eq!(failures.len(), 2, "{failures:?}");
        assert!(failures[0].starts_with("echo: batch of 2: largest difference from candle 5"), "{failures:?}");
        assert!(failures[1].starts_with("echo: an image alone and in a batch differ by 5"), "{failures:?}");
    }

    #[test]
    fn an_image_that_depends_on_its_batch_is_found() {
        let report = compare(|image, batch| image.iter_mut().for_each(|value| *value += 1e-5 * batch as f32));
        assert_eq!(report.failures(gate(1e-4)), Vec::<String>::new());
        let failures = report.failures(gate(3e-5));
        assert!(failures.iter().any(|failure| failure.contains("alone and in a batch")), "{failures:?}");
    }

    #[test]
    fn numbers_that_are_not_finite_too_few_of_them_and_errors_fail() {
        let broken: [(Change, &str); 3] = [
            (|image, _| image[3] = f32::NAN, "number 3 of the image is NaN"),
            (|image, _| image.truncate(1), "1 numbers in the image"),
            (|image, _| image.clear(), "out of paper"),
        ];
        for (change, problem) in broken {
            let failures = compare(change).failures(gate(1e-4));
            assert!(failures.iter().any(|failure| failure.contains(problem)), "{failures:?}");
        }
    }

    #[test]
    fn a_fixed_batch_holds_every_image_at_two_places() {
        for size in [1, 2, 3, 5, 8] {
            let batches = batches(5, Some(size));
            assert!(batches.iter().all(|rows| rows.len() == size), "{batches:?}");
            assert!((0..5).all(|row| batches.iter().flatten().any(|found| *found == row)), "{batches:?}");
            let report = compare_fixed(|_, _| (), Some(size));
            assert_eq!(report.failures(gate(1e-4)), Vec::<String>::new());
            assert_eq!(report.batch_invariance, (size > 1).then_some(0.0));
        }
        let report = compare_fixed(|image, _| image[0] += 0.5, Some(4));
        assert!(report.failures(gate(1e-4)).iter().any(|failure| failure.contains("alone and in a batch")));
    }

    #[test]
    fn low_precision_is_judged_by_its_pictures() {
        let low = Gate { difference: 1e-4, psnr: Some(40.0) };
        let near = compare(|image, _| image.iter_mut().for_each(|value| *value += 0.004));
        assert_eq!(near.failures(low), Vec::<String>::new());
        let far = compare(|image, _| image.iter_mut().for_each(|value| *value += 0.1));
        let failures = far.failures(low);
        assert!(failures.len() == 1 && failures[0].contains("dB from candle's image, at least 40"), "{failures:?}");
    }
}
