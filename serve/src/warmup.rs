//! The first runs of an engine: they warm it up and find the batch sizes that it may use.

use drifting_spec::{Inputs, Manifest};

use crate::engine::{self, Engine, EngineError};
use crate::service::Limits;

/// Powers of two up to `limits.max_batch`, 1 among them, that the engine runs and, if `limits.exact`, in which every
/// image comes out bit for bit as in a batch of one.
///
/// Kernels that change with the batch size move the last bits of a number, and then a pixel here and there by one
/// level. The exporter spells a graph so that no kernel does on a processor (its conditioning never has a single row), so
/// there all sizes are usually left; a GPU's libraries promise nothing of the kind.
///
/// # Errors
/// The engine cannot run a single image, or its numbers are not finite.
pub(crate) fn batch_sizes(
    engine: &mut dyn Engine,
    manifest: &Manifest,
    limits: &Limits,
) -> Result<Vec<usize>, EngineError> {
    let alone = [run(engine, manifest, &[0])?, run(engine, manifest, &[1])?];
    let mut sizes = vec![1];
    for size in engine::batch_sizes(limits.max_batch).into_iter().skip(1) {
        let images: Vec<u64> = (0..size as u64).map(|number| number % 2).collect();
        match run(engine, manifest, &images) {
            Ok(together) if !limits.exact || same_bits(&together, &alone) => sizes.push(size),
            Ok(_) => tracing::debug!(size, "this batch size moves the last bits of the images and is not used"),
            Err(error) => tracing::warn!(size, %error, "this batch size does not run and is not used"),
        }
    }
    Ok(sizes)
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
            let mut engine = Picky { info: info(), drifts, fails };
            let limits = Limits { max_batch, exact, ..Limits::default() };
            batch_sizes(&mut engine, &manifest(), &limits).map_err(|error| error.to_string())
        };
        assert_eq!(sizes(0, 0, 9, true).unwrap(), [1, 2, 4, 8]);
        assert_eq!(sizes(4, 0, 8, true).unwrap(), [1, 2, 8]);
        assert_eq!(sizes(2, 4, 8, true).unwrap(), [1, 8]);
        assert_eq!(sizes(2, 4, 8, false).unwrap(), [1, 2, 8]);
        assert_eq!(sizes(0, 0, 1, true).unwrap(), [1]);
        assert!(sizes(0, 1, 8, true).unwrap_err().contains("too many"));
    }
}
