//! The view of one feature key of one step.

use drifting_models::ops::simd::LANES;

use super::DriftError;

/// Sizes of a [`KeyBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyShape {
    /// Class groups of the step.
    pub groups: usize,
    /// Vectors of this key per image, T. A vector only ever meets those of the same group and location.
    pub locations: usize,
    /// Generated images per group, Ng.
    pub generated: usize,
    /// Real images of the class per group, Np.
    pub positives: usize,
    /// Real images of any class per group, Nu; may be 0.
    pub unconditional: usize,
    /// Length of a vector, D.
    pub dim: usize,
}

impl KeyShape {
    /// Independent drift problems, B: one per group and location.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.groups * self.locations
    }

    pub(super) fn check(&self, key: &str, negatives: usize) -> Result<(), DriftError> {
        let sizes = [
            ("groups", self.groups),
            ("locations", self.locations),
            ("generated samples", self.generated),
            ("positives", self.positives),
            ("negatives", negatives),
            ("dimensions", self.dim),
        ];
        match sizes.into_iter().find(|&(_, size)| size == 0) {
            Some((name, _)) => Err(shape_error(key, format!("needs at least one of its {name}"))),
            None => Ok(()),
        }
    }

    pub(super) fn check_weights(&self, key: &str, weights: &[f32]) -> Result<(), DriftError> {
        if weights.len() != self.groups {
            let problem = format!("{} guidance weights for {} class groups", weights.len(), self.groups);
            return Err(shape_error(key, problem));
        }
        match weights.iter().find(|weight| !weight.is_finite() || **weight < 0.0) {
            Some(weight) => {
                Err(shape_error(key, format!("a guidance weight of {weight} is neither 0 nor a positive number")))
            }
            None => Ok(()),
        }
    }
}

/// The numbers of a [`KeyBatch`], image by image as an encoder gives them.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    /// G `[groups * Ng, T, D]`.
    pub generated: &'a [f32],
    /// P `[groups * Np, T, D]`.
    pub positives: &'a [f32],
    /// U `[groups * Nu, T, D]`.
    pub unconditional: &'a [f32],
    /// Guidance weight of the unconditional images, `[groups]`; see [`guidance_weight`](super::guidance_weight).
    pub weight: &'a [f32],
}

/// One feature key of one step: generated, positive and unconditional features of every class group.
#[derive(Clone, Copy, Debug)]
pub struct KeyBatch<'a> {
    key: &'a str,
    shape: KeyShape,
    features: Features<'a>,
    own_negatives: bool,
}

impl<'a> KeyBatch<'a> {
    /// A batch for `key`, the name that errors call it by. Generated samples are each other's negatives.
    ///
    /// # Errors
    /// A size of 0 (only Nu may be), slices that do not have the shape's lengths, weights that are negative or not finite.
    pub fn new(key: &'a str, shape: KeyShape, features: Features<'a>) -> Result<Self, DriftError> {
        Self::with_negatives(key, shape, features, true)
    }

    /// A batch whose negatives are the unconditional samples, and also the generated ones if `own_negatives`.
    pub(super) fn with_negatives(
        key: &'a str,
        shape: KeyShape,
        features: Features<'a>,
        own_negatives: bool,
    ) -> Result<Self, DriftError> {
        shape.check(key, if own_negatives { shape.generated } else { shape.unconditional })?;
        let lengths = [
            ("generated", features.generated.len(), shape.generated),
            ("positive", features.positives.len(), shape.positives),
            ("unconditional", features.unconditional.len(), shape.unconditional),
        ];
        for (set, found, images) in lengths {
            let factors = [shape.groups, images, shape.locations, shape.dim];
            let expected = factors.into_iter().try_fold(1usize, usize::checked_mul);
            if expected != Some(found) {
                return Err(shape_error(key, format!("{set} features: {found} numbers, expected {factors:?}")));
            }
        }
        shape.check_weights(key, features.weight)?;
        Ok(Self { key, shape, features, own_negatives })
    }

    /// Name of the feature key.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// Sizes.
    #[must_use]
    pub fn shape(&self) -> KeyShape {
        self.shape
    }

    pub(super) fn features(&self) -> &Features<'a> {
        &self.features
    }

    /// The targets of each problem.
    pub(super) fn columns(&self) -> Columns {
        let KeyShape { generated, unconditional, positives, .. } = self.shape;
        let own = if self.own_negatives { generated } else { 0 };
        Columns { own, negatives: own + unconditional, targets: own + unconditional + positives }
    }

    /// Sum of the weights W of the targets of a problem of `group`.
    pub(super) fn weight_sum(&self, group: usize) -> f64 {
        let columns = self.columns();
        let of_weight_one = columns.own + columns.targets - columns.negatives;
        of_weight_one as f64 + f64::from(self.features.weight[group]) * self.shape.unconditional as f64
    }

    /// The images `[T, D]` of `set` of `group`.
    pub(super) fn images(&self, set: &'a [f32], group: usize) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let KeyShape { groups, locations, dim, .. } = self.shape;
        let each = set.len() / groups;
        set[group * each..][..each].chunks_exact(locations * dim)
    }

    /// The vectors of `set` at `location` of `group`, one per image.
    pub(super) fn vectors(
        &self,
        set: &'a [f32],
        group: usize,
        location: usize,
    ) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let dim = self.shape.dim;
        self.images(set, group).map(move |image| &image[location * dim..][..dim])
    }
}

/// The targets of a problem in their order: the generated samples if they are negatives, unconditional ones, positives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    /// Generated samples among the negatives: all of them or none.
    pub(super) own: usize,
    /// Negatives, K.
    pub(super) negatives: usize,
    /// All targets.
    pub(super) targets: usize,
}

impl Columns {
    /// Numbers from a row of a matrix over the targets to the next: what is left beside whole vectors would cost as much as
    /// one more.
    pub(super) fn stride(self) -> usize {
        self.targets.next_multiple_of(LANES)
    }
}

fn shape_error(key: &str, problem: String) -> DriftError {
    DriftError::Shape { key: key.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: KeyShape = KeyShape { groups: 2, locations: 3, generated: 2, positives: 1, unconditional: 0, dim: 2 };

    fn features(generated: &[f32]) -> Features<'_> {
        Features { generated, positives: &[0.0; 12], unconditional: &[], weight: &[0.0, 1.0] }
    }

    #[test]
    fn vectors_are_those_of_one_group_and_location() {
        let generated: Vec<f32> = (0..24).map(|value| value as f32).collect();
        let batch = KeyBatch::new("patch", SHAPE, features(&generated)).unwrap();
        let found: Vec<_> = batch.vectors(batch.features().generated, 1, 2).collect();
        assert_eq!(found, [&[16.0, 17.0], &[22.0, 23.0]]);
        assert_eq!(batch.columns(), Columns { own: 2, negatives: 2, targets: 3 });
        assert_eq!(batch.weight_sum(1), 3.0);
        assert_eq!(batch.vectors(batch.features().unconditional, 0, 0).count(), 0);
    }

    #[test]
    fn sizes_that_contradict_each_other_name_the_key() {
        let error = KeyBatch::new("patch", SHAPE, features(&[0.0; 23])).unwrap_err();
        assert_eq!(error.to_string(), "feature key patch: generated features: 23 numbers, expected [2, 2, 3, 2]");
        let none = KeyShape { positives: 0, ..SHAPE };
        let error = KeyBatch::new("patch", none, Features { positives: &[], ..features(&[0.0; 24]) }).unwrap_err();
        assert_eq!(error.to_string(), "feature key patch: needs at least one of its positives");
        for weight in [-1.0, f32::NAN] {
            let features = Features { weight: &[0.0, weight], ..features(&[0.0; 24]) };
            assert!(KeyBatch::new("patch", SHAPE, features).unwrap_err().to_string().contains("guidance weight"));
        }
    }
}
