//! Batches made in the test, and comparison.

use drifting_spec::Stream;
use drifting_train::drift::{DriftError, DriftSettings, Features, KeyBatch, KeyShape, drift_key};

/// What a key contributes to a step and what it was scaled by.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) gradient: Vec<f32>,
    pub(crate) loss: f64,
    pub(crate) scale: f64,
    pub(crate) drift_norms: Vec<f64>,
}

/// Features of a key, owned.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) shape: KeyShape,
    pub(crate) generated: Vec<f32>,
    pub(crate) positives: Vec<f32>,
    pub(crate) unconditional: Vec<f32>,
    pub(crate) weight: Vec<f32>,
}

impl Case {
    /// Normal features; positives are off by 1, guidance weights 0, 1.5, 3...
    pub(crate) fn random(seed: u64, shape: KeyShape) -> Self {
        let draw = |name, images: usize| {
            Stream::new(seed, name, 0).normals(shape.groups * images * shape.locations * shape.dim)
        };
        Self {
            shape,
            generated: draw("generated", shape.generated),
            positives: draw("positives", shape.positives).into_iter().map(|value| value + 1.0).collect(),
            unconditional: draw("unconditional", shape.unconditional),
            weight: (0..shape.groups).map(|group| 1.5 * group as f32).collect(),
        }
    }

    pub(crate) fn outcome(&self, settings: &DriftSettings) -> Result<Outcome, DriftError> {
        let features = Features {
            generated: &self.generated,
            positives: &self.positives,
            unconditional: &self.unconditional,
            weight: &self.weight,
        };
        let (outcome, scale) = drift_key(&KeyBatch::new("test", self.shape, features)?, settings)?;
        let (gradient, loss) = (outcome.gradient, outcome.loss);
        Ok(Outcome { gradient, loss, scale: scale.distance, drift_norms: scale.squares })
    }
}

/// A few sizes, drawn; some without unconditional samples.
pub(crate) fn random_shape(seed: u64) -> KeyShape {
    let mut stream = Stream::new(seed, "shape", 0);
    KeyShape {
        groups: 1 + stream.below(3),
        locations: 1 + stream.below(3),
        generated: 1 + stream.below(7),
        positives: 1 + stream.below(9),
        unconditional: stream.below(4),
        dim: 1 + stream.below(12),
    }
}

/// Largest difference, relative where numbers exceed 1.
pub(crate) fn difference<A: Copy + Into<f64>, B: Copy + Into<f64>>(found: &[A], expected: &[B]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected).map(|(&found, &expected)| (found.into(), expected.into()));
    let difference = |(found, expected): (f64, f64)| (found - expected).abs() / expected.abs().max(1.0);
    // A NaN on either side is a difference, and the largest.
    pairs.map(difference).fold(0.0, |worst, one| if one <= worst { worst } else { one })
}

/// Asserts that all numbers agree to `tolerance`, relative where they exceed 1.
#[track_caller]
pub(crate) fn assert_close<A: Copy + Into<f64>, B: Copy + Into<f64>>(found: &[A], expected: &[B], tolerance: f64) {
    let difference = difference(found, expected);
    assert!(difference <= tolerance, "differ by {difference:.2e}, more than {tolerance:.0e}");
}
