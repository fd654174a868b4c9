//! The vectors of one class group at one location.

use drifting_models::ops::lanes::{LaneKernel, Lanes, dispatch_lanes};
use drifting_models::ops::simd::LANES;
use pulp::Simd;

use super::batch::{Columns, KeyBatch, KeyShape};

/// The points of a problem. A generated sample meets every target of its problem and none of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Points<'a> {
    /// Generated samples x, then the targets y that are not among them: `[images, D]`.
    values: &'a [f32],
    generated: usize,
    columns: Columns,
    dim: usize,
}

impl<'a> Points<'a> {
    /// Those of one problem of `batch`, [gathered](gather) before, as they are.
    pub(super) fn new(batch: &KeyBatch<'_>, values: &'a [f32]) -> Self {
        let KeyShape { generated, dim, .. } = batch.shape();
        Self { values, generated, columns: batch.columns(), dim }
    }

    /// As [`new`](Self::new), with their mean taken away. Drifts do not depend on it, the precision of distances does.
    pub(super) fn centred(batch: &KeyBatch<'_>, values: &'a mut [f32], mean: &mut Vec<f32>) -> Self {
        mean.clear();
        mean.resize(batch.shape().dim, 0.0);
        dispatch_lanes(Centre { values, mean });
        Self::new(batch, values)
    }

    /// All of them `[images, D]`.
    pub(super) fn all(&self) -> &'a [f32] {
        self.values
    }

    /// Generated samples x `[Ng, D]`.
    pub(super) fn samples(&self) -> &'a [f32] {
        &self.values[..self.generated * self.dim]
    }

    /// Targets y `[targets, D]`.
    pub(super) fn targets(&self) -> &'a [f32] {
        &self.values[self.values.len() - self.columns.targets * self.dim..]
    }

    /// Targets that are no samples.
    pub(super) fn others(&self) -> &'a [f32] {
        &self.values[self.generated * self.dim..]
    }

    /// Whether the samples are among the targets, as their first ones.
    pub(super) fn samples_are_targets(&self) -> bool {
        self.columns.own > 0
    }

    /// Order of the targets.
    pub(super) fn columns(&self) -> Columns {
        self.columns
    }

    /// Length of a vector, D.
    pub(super) fn dim(&self) -> usize {
        self.dim
    }
}

/// Images whose vectors meet in a problem.
pub(super) fn images(KeyShape { generated, positives, unconditional, .. }: KeyShape) -> usize {
    generated + unconditional + positives
}

/// Copies the points of problems number `first` = group * T + location and following ones of the same group to `values`
/// `[problems, images, D]`, as many as there is room for. Each image is read in one stretch: its vectors lie side by side, those of
/// different images often where they would drive each other out of the cache.
pub(super) fn gather(batch: &KeyBatch<'_>, first: usize, values: &mut [f32]) {
    dispatch_lanes(Gather { batch, first, values });
}

struct Gather<'a, 'b> {
    batch: &'a KeyBatch<'b>,
    first: usize,
    values: &'a mut [f32],
}

impl LaneKernel for Gather<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { batch, first, values } = self;
        let (locations, dim) = (batch.shape().locations, batch.shape().dim);
        let (group, location) = (first / locations, first % locations);
        let problem = images(batch.shape()) * dim;
        let features = batch.features();
        let mut place = 0;
        for set in [features.generated, features.unconditional, features.positives] {
            for image in batch.images(set, group) {
                let vectors = image[location * dim..].chunks_exact(dim);
                for (vector, problem) in vectors.zip(values.chunks_exact_mut(problem)) {
                    let (to, to_rest) = problem[place..][..dim].as_chunks_mut::<LANES>();
                    let (from, from_rest) = vector.as_chunks::<LANES>();
                    for (to, from) in to.iter_mut().zip(from) {
                        Lanes::<S, N>::load(simd, from).store(to);
                    }
                    to_rest.copy_from_slice(from_rest);
                }
                place += dim;
            }
        }
    }
}

/// Takes their mean from all points.
struct Centre<'a> {
    values: &'a mut [f32],
    /// Zeros.
    mean: &'a mut [f32],
}

impl LaneKernel for Centre<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { values, mean } = self;
        let dim = mean.len();
        for row in values.chunks_exact(dim) {
            let (sums, sums_rest) = mean.as_chunks_mut::<LANES>();
            let (numbers, rest) = row.as_chunks::<LANES>();
            for (sum, numbers) in sums.iter_mut().zip(numbers) {
                Lanes::<S, N>::load(simd, sum).add(simd, Lanes::load(simd, numbers)).store(sum);
            }
            for (sum, number) in sums_rest.iter_mut().zip(rest) {
                *sum += number;
            }
        }
        let share = 1.0 / (values.len() / dim) as f32;
        mean.iter_mut().for_each(|mean| *mean *= share);
        for row in values.chunks_exact_mut(dim) {
            let (numbers, rest) = row.as_chunks_mut::<LANES>();
            let (means, means_rest) = mean.as_chunks::<LANES>();
            for (numbers, mean) in numbers.iter_mut().zip(means) {
                Lanes::<S, N>::load(simd, numbers).sub(simd, Lanes::load(simd, mean)).store(numbers);
            }
            for (number, mean) in rest.iter_mut().zip(means_rest) {
                *number -= mean;
            }
        }
    }
}
