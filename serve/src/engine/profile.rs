//! Batch sizes, and the shapes that they give to the inputs of a graph.

/// Powers of two up to `max_batch`, 1 among them: the batch sizes that a server may use.
#[must_use]
pub fn batch_sizes(max_batch: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |size: &usize| size.checked_mul(2));
    powers.take_while(|&size| size <= max_batch.max(1)).collect()
}

/// Shapes between which TensorRT makes an engine work, and the one that it tunes the engine for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    inputs: Vec<(String, Vec<usize>)>,
    smallest: usize,
    largest: usize,
}

impl Profile {
    /// A profile for `inputs` (names with their dimensions behind the batch) and all of `batches`, tuned for the largest,
    /// which is what a server under load computes.
    pub(super) fn new(inputs: Vec<(String, Vec<usize>)>, batches: &[usize]) -> Self {
        let smallest = batches.iter().copied().min().unwrap_or(1);
        let largest = batches.iter().copied().max().unwrap_or(1);
        Self { inputs, smallest, largest }
    }

    /// Smallest shapes, such as `noise:1x3x32x32,class:1`.
    pub(super) fn min(&self) -> String {
        self.shapes(self.smallest)
    }

    /// The shapes to tune for.
    pub(super) fn opt(&self) -> String {
        self.shapes(self.largest)
    }

    /// Largest shapes.
    pub(super) fn max(&self) -> String {
        self.shapes(self.largest)
    }

    fn shapes(&self, batch: usize) -> String {
        let shape = |(name, dimensions): &(String, Vec<usize>)| {
            let sizes: Vec<_> = std::iter::once(&batch).chain(dimensions).map(usize::to_string).collect();
            format!("{name}:{}", sizes.join("x"))
        };
        self.inputs.iter().map(shape).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_are_powers_of_two() {
        assert_eq!(batch_sizes(9), [1, 2, 4, 8]);
        assert_eq!((batch_sizes(1), batch_sizes(0)), (vec![1], vec![1]));
    }

    #[test]
    fn a_profile_spans_all_batches() {
        let profile = Profile::new(vec![("noise".to_owned(), vec![4, 8]), ("alpha".to_owned(), vec![])], &[2, 1, 4]);
        assert_eq!(profile.min(), "noise:1x4x8,alpha:1");
        assert_eq!(
            (profile.opt(), profile.max()),
            ("noise:4x4x8,alpha:4".to_owned(), "noise:4x4x8,alpha:4".to_owned())
        );
    }
}
