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
    /// Those of a problem of `batch`, gathered before.
    pub(super) fn new(batch: &KeyBatch<'_>, values: &'a [f32]) -> Self {
        let KeyShape { generated, dim, .. } = batch.shape();
        Self { values, generated, columns: batch.columns(), dim }
    }

    /// Copies those of problem number `index` = group * T + location of `batch` to `values` `[images, D]`, and takes their mean
    /// away. Drifts do not depend on it, the precision of distances does.
    pub(super) fn gather(batch: &KeyBatch<'_>, index: usize, values: &'a mut [f32], mean: &mut Vec<f32>) -> Self {
        mean.clear();
        mean.resize(batch.shape().dim, 0.0);
        dispatch_lanes(Gather { batch, index, values, mean });
        Self::new(batch, values)
    }

    /// As [`gather`](Self::gather), but as they are.
    pub(super) fn copy(batch: &KeyBatch<'_>, index: usize, values: &'a mut [f32]) -> Self {
        for (row, vector) in values.chunks_exact_mut(batch.shape().dim).zip(vectors(batch, index)) {
            row.copy_from_slice(vector);
        }
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

/// The vectors of problem number `index` in their order.
fn vectors<'a>(batch: &KeyBatch<'a>, index: usize) -> impl Iterator<Item = &'a [f32]> {
    let (group, location) = (index / batch.shape().locations, index % batch.shape().locations);
    let features = batch.features();
    let sets = [features.generated, features.unconditional, features.positives];
    let batch = *batch;
    sets.into_iter().flat_map(move |set| batch.vectors(set, group, location))
}

/// Copies the points and takes their mean from each of them.
struct Gather<'a, 'b> {
    batch: &'a KeyBatch<'b>,
    index: usize,
    values: &'a mut [f32],
    /// Zeros.
    mean: &'a mut [f32],
}

impl LaneKernel for Gather<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { batch, index, values, mean } = self;
        let dim = mean.len();
        let (group, location) = (index / batch.shape().locations, index % batch.shape().locations);
        let features = batch.features();
        let mut rows = values.chunks_exact_mut(dim);
        for set in [features.generated, features.unconditional, features.positives] {
            for (vector, row) in batch.vectors(set, group, location).zip(&mut rows) {
                let (to, rest) = row.as_chunks_mut::<LANES>();
                let (sums, sums_rest) = mean.as_chunks_mut::<LANES>();
                let (from, from_rest) = vector.as_chunks::<LANES>();
                for ((to, sum), from) in to.iter_mut().zip(sums).zip(from) {
                    let numbers = Lanes::<S, N>::load(simd, from);
                    numbers.store(to);
                    Lanes::load(simd, sum).add(simd, numbers).store(sum);
                }
                for ((to, sum), &number) in rest.iter_mut().zip(sums_rest).zip(from_rest) {
                    *to = number;
                    *sum += number;
                }
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
