//! What an engine is asked for, and how far its answers are from candle's.

use std::ops::Range;

use drifting_spec::{Inputs, Manifest};

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

    /// The images `rows` as a batch of their own.
    fn rows(&self, rows: Range<usize>) -> Inputs {
        let Inputs { noise, style, class, alpha } = &self.inputs;
        Inputs {
            noise: part(noise, class.len(), rows.clone()).to_vec(),
            style: part(style, class.len(), rows.clone()).to_vec(),
            class: part(class, class.len(), rows.clone()).to_vec(),
            alpha: part(alpha, class.len(), rows).to_vec(),
        }
    }

    /// Runs all images at once, the first two, and each alone, and compares with `expected`, candle's images.
    pub(super) fn compare(&self, runner: &mut dyn Runner, expected: &[f32]) -> RunnerReport {
        let name = runner.name().to_owned();
        let run = |rows: Range<usize>| runner.run(&self.rows(rows)).map_err(|error| error.to_string());
        compare(name, self.inputs.batch(), expected, run)
    }
}

/// Runs `all` rows at once with the engine `name`, the first two, and each alone, and compares with `expected`, which holds
/// the same number of values for each.
pub(super) fn compare(
    name: String,
    all: usize,
    expected: &[f32],
    mut engine: impl FnMut(Range<usize>) -> Result<Vec<f32>, String>,
) -> RunnerReport {
    let mut problems = Vec::new();
    let mut run = |rows: Range<usize>| {
        let difference = engine(rows.clone()).and_then(|found| {
            let difference = largest_difference(&found, part(expected, all, rows.clone()))?;
            Ok((found, difference))
        });
        difference.map_err(|problem| problems.push(format!("batch of {}: {problem}", rows.len()))).ok()
    };
    let together = run(0..all);
    let two = (all > 2).then(|| run(0..2));
    let alone: Option<Vec<_>> = (0..all).map(|row| run(row..row + 1)).collect();

    let worst = |images: &[(Vec<f32>, f32)]| images.iter().map(|(_, difference)| *difference).fold(0.0, f32::max);
    let batch_invariance = together.as_ref().zip(alone.as_ref()).and_then(|((together, _), alone)| {
        let alone: Vec<f32> = alone.iter().flat_map(|(image, _)| image).copied().collect();
        largest_difference(&alone, together).ok()
    });
    let two = two.map(|two| BatchReport { batch: 2, max_abs_diff: two.map(|(_, difference)| difference) });
    let batches = [BatchReport { batch: 1, max_abs_diff: alone.as_deref().map(worst) }]
        .into_iter()
        .chain(two)
        .chain([BatchReport { batch: all, max_abs_diff: together.map(|(_, difference)| difference) }])
        .collect();
    RunnerReport { name, batches, batch_invariance, problems }
}

/// The entries of `rows` in a list that holds the same number for each of `all` rows.
pub(super) fn part<T>(values: &[T], all: usize, rows: Range<usize>) -> &[T] {
    let each = values.len() / all.max(1);
    values.get(rows.start * each..rows.end * each).unwrap_or_default()
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

    use super::*;
    use crate::BoxError;

    fn cases() -> Cases {
        let image = ImageShape { channels: 1, height: 2, width: 2 };
        let generator = GeneratorConfig { style_tokens: 3, ..GeneratorConfig::new(image, 2, 8, 1, 1, 10) };
        let alpha = AlphaRange { min: 1.0, max: 4.0, default: 1.5 };
        Cases::new(&Manifest::new("test".into(), generator, alpha))
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

    fn compare(change: Change) -> RunnerReport {
        let cases = cases();
        cases.compare(&mut Echo(change), &cases.inputs.noise)
    }

    #[test]
    fn the_edges_are_asked_for() {
        let inputs = cases().inputs;
        assert_eq!(inputs.class, [0, 9, 0, 9, 4]);
        assert_eq!(inputs.alpha, [1.0, 4.0, 4.0, 1.0, 1.5]);
        assert_eq!(inputs.style[..6], [0, 0, 0, 63, 63, 63]);
        assert_eq!(cases().rows(1..2).style, [63, 63, 63]);
    }

    #[test]
    fn an_engine_that_agrees_passes() {
        let report = compare(|_, _| ());
        assert_eq!(report.failures(1e-4), Vec::<String>::new());
        assert_eq!(report.batches.iter().map(|batch| batch.batch).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!(report.batch_invariance, Some(0.0));
    }

    #[test]
    fn a_difference_is_named_with_its_batch_and_size() {
        let report = compare(|image, batch| image[0] += if batch == 2 { 0.5 } else { 0.0 });
        let failures = report.failures(1e-4);
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].starts_with("echo: batch of 2: largest difference from candle 5"), "{failures:?}");
    }

    #[test]
    fn an_image_that_depends_on_its_batch_is_found() {
        let report = compare(|image, batch| image.iter_mut().for_each(|value| *value += 1e-5 * batch as f32));
        assert_eq!(report.failures(1e-4), Vec::<String>::new());
        let failures = report.failures(3e-5);
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
            let failures = compare(change).failures(1e-4);
            assert!(failures.iter().any(|failure| failure.contains(problem)), "{failures:?}");
        }
    }
}
