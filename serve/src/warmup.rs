//! The first runs of an engine: they warm it up and find the batch sizes that it may use.

use drifting_spec::{Inputs, Manifest};

use crate::engine::{self, Engine, EngineError};
use crate::service::{Limits, ServiceError};

/// Powers of two up to `limits.max_batch`, 1 among them, that every engine runs and, if `limits.exact`, in which every
/// image comes out bit for bit as in a batch of one of the first engine.
///
/// Kernels that change with the batch size move the last bits of a number, and then a pixel here and there by one
/// level. The exporter spells a graph so that no kernel does on a processor (its conditioning never has a single row), so
/// there all sizes are usually left; a GPU's libraries promise nothing of the kind.
///
/// # Errors
/// There is no engine, one cannot run a single image, its numbers are not finite, or two engines do not agree.
pub(crate) fn batch_sizes(
    engines: &mut [Box<dyn Engine>],
    manifest: &Manifest,
    limits: &Limits,
) -> Result<Vec<usize>, ServiceError> {
    let (first, others) = engines.split_first_mut().ok_or(ServiceError::NoEngine)?;
    let alone = alone(first.as_mut(), manifest)?;
    let mut sizes = engine::batch_sizes(limits.max_batch);
    keep_good(&mut sizes, first.as_mut(), manifest, limits.exact.then_some(&alone));
    for (number, engine) in (2..).zip(others) {
        let theirs = self::alone(engine.as_mut(), manifest)?;
        if limits.exact && !same_bits(&theirs.concat(), &alone) {
            return Err(ServiceError::Replicas(number));
        }
        keep_good(&mut sizes, engine.as_mut(), manifest, limits.exact.then_some(&alone));
    }
    Ok(sizes)
}

/// The two images that batches are made of, each alone.
fn alone(engine: &mut dyn Engine, manifest: &Manifest) -> Result<[Vec<f32>; 2], EngineError> {
    Ok([run(engine, manifest, &[0])?, run(engine, manifest, &[1])?])
}

/// Leaves out sizes above 1 that `engine` does not run, or in which it does not make these images.
fn keep_good(sizes: &mut Vec<usize>, engine: &mut dyn Engine, manifest: &Manifest, images: Option<&[Vec<f32>; 2]>) {
    sizes.retain(|&size| {
        let numbers: Vec<u64> = (0..size as u64).map(|number| number % 2).collect();
        // One image was run already.
        let result = (size > 1).then(|| run(engine, manifest, &numbers));
        match result {
            None => return true,
            Some(Ok(together)) if images.is_none_or(|alone| same_bits(&together, alone)) => return true,
            Some(Ok(_)) => tracing::debug!(size, "this batch size moves the last bits of the images and is not used"),
            Some(Err(error)) => tracing::warn!(size, %error, "this batch size does not run and is not used"),
        }
        false
    });
}

/// Runs images `indices` of seed 0; the index also chooses class and alpha.
fn run(engine: &mut dyn Engine, manifest: &Manifest, indices: &[u64]) -> Result<Vec<f32>, EngineError> {
    let mut inputs = Inputs::default();
    for &index in indices {
        let (class, alpha) = match index {
            0 => (0, manifest.alpha.min),
            _ => (manifest.generator.classes - 1, manifest.alpha.max),
        };
        inputs.push_seeded(&manifest.generator, 0, index, class, alpha);
    }
    engine::run(engine, &inputs)
}

fn same_bits(together: &[f32], alone: &[Vec<f32>; 2]) -> bool {
    let expected = alone.iter().flatten().cycle();
    together.iter().zip(expected).all(|(found, expected)| found.to_bits() == expected.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineInfo;
    use crate::testing::{info, manifest};

    /// Moves the last bit in batches of `drifts`, fails in batches of `fails`.
    struct Picky {
        info: EngineInfo,
        drifts: usize,
        fails: usize,
    }

    impl Engine for Picky {
        fn info(&self) -> &EngineInfo {
            &self.info
        }

        fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
            let batch = inputs.batch();
            if batch == self.fails {
                return Err(EngineError::Run { engine: "test", problem: "too many".to_owned() });
            }
            let last = |value: f32| if batch == self.drifts { f32::from_bits(value.to_bits() ^ 1) } else { value };
            Ok(inputs.noise.iter().map(|&value| last(value)).collect())
        }
    }

    #[test]
    fn sizes_that_change_an_image_or_fail_are_left_out() {
        let sizes = |drifts, fails, max_batch, exact| {
            let mut engines = [Box::new(Picky { info: info(), drifts, fails }) as Box<dyn Engine>];
            let limits = Limits { max_batch, exact, ..Limits::default() };
            batch_sizes(&mut engines, &manifest(), &limits).map_err(|error| error.to_string())
        };
        assert_eq!(sizes(0, 0, 9, true).unwrap(), [1, 2, 4, 8]);
        assert_eq!(sizes(4, 0, 8, true).unwrap(), [1, 2, 8]);
        assert_eq!(sizes(2, 4, 8, true).unwrap(), [1, 8]);
        assert_eq!(sizes(2, 4, 8, false).unwrap(), [1, 2, 8]);
        assert_eq!(sizes(0, 0, 1, true).unwrap(), [1]);
        assert!(sizes(0, 1, 8, true).unwrap_err().contains("too many"));
    }
    #[test]
    fn replicas_agree_with_the_first_or_are_refused() {
        let sizes = |drifts: [usize; 2], exact| {
            let engines = drifts.map(|drifts| Box::new(Picky { info: info(), drifts, fails: 0 }) as Box<dyn Engine>);
            let limits = Limits { exact, ..Limits::default() };
            batch_sizes(&mut Vec::from(engines), &manifest(), &limits).map_err(|error| error.to_string())
        };
        assert_eq!(sizes([0, 0], true).unwrap(), [1, 2, 4, 8]);
        assert_eq!(sizes([2, 8], true).unwrap(), [1, 4]);
        assert!(sizes([0, 1], true).unwrap_err().contains("replica 2"));
        assert_eq!(sizes([0, 1], false).unwrap(), [1, 2, 4, 8]);
    }
}
