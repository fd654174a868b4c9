//! The vectors of one class group at one location.

use drifting_models::ops::lanes::{LaneKernel, Lanes, dispatch_lanes};
use drifting_models::ops::rounded_rows::RoundedRows;
use drifting_models::ops::simd::LANES;
use pulp::Simd;

use super::batch::{Columns, KeyBatch, KeyShape};
use super::settings::Products;
use super::spare::some;
use drifting_models::ops::row_products::Products as Places;

/// The points of a problem. A generated sample meets every target of its problem and none of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Points<'a> {
    /// Generated samples x, then the targets y that are not among them: `[images, D]`.
    values: &'a [f32],
    generated: usize,
    columns: Columns,
    dim: usize,
    rounded: Option<Rounded<'a>>,
}

/// What is to be known of points that are rounded to bfloat16 when they are multiplied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounded<'a> {
    /// Their mean `[D]`, which is still in them.
    pub(super) mean: &'a [f32],
    /// Squared norms about it, of all, where their inner products were computed.
    pub(super) norms: &'a [f32],
}

impl<'a> Points<'a> {
    /// Those of one problem of `batch`.
    fn new(batch: &KeyBatch<'_>, values: &'a [f32]) -> Self {
        let KeyShape { generated, dim, .. } = batch.shape();
        Self { values, generated, columns: batch.columns(), dim, rounded: None }
    }

    /// Whether they are to be rounded.
    pub(super) fn rounded(&self) -> Option<Rounded<'a>> {
        self.rounded
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

    /// Numbers from a row of a matrix over the targets that are no samples to the next.
    pub(super) fn others_stride(&self) -> usize {
        (self.others().len() / self.dim).next_multiple_of(LANES)
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

/// The points of problems that follow each other, in memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// `[problems, images, D]`.
    values: Vec<f32>,
    /// Sums over the images `[problems, D]`.
    sums: Vec<f32>,
}

impl Gathered {
    /// Copies the points of problem `first` = group * T + location and following ones of the same group, so many in all. Each
    /// image is read in one stretch: its vectors lie side by side, those of different images often where they would drive each
    /// other out of the cache.
    pub(super) fn gather(&mut self, batch: &KeyBatch<'_>, first: usize, problems: usize) {
        let dim = batch.shape().dim;
        let sums = some(&mut self.sums, problems * dim);
        sums.fill(0.0);
        let values = some(&mut self.values, problems * images(batch.shape()) * dim);
        dispatch_lanes(Gather { batch, first, values, sums });
    }

    /// Those of the problem of this number, as they are.
    pub(super) fn points(&self, batch: &KeyBatch<'_>, number: usize) -> Points<'_> {
        let each = images(batch.shape()) * batch.shape().dim;
        Points::new(batch, &self.values[number * each..][..each])
    }

    /// As [`points`](Self::points), but for their mean, or to be rounded about it: once for each problem. Drifts do not depend on
    /// it, the precision of distances does.
    pub(super) fn centred(&mut self, batch: &KeyBatch<'_>, number: usize, products: Products) -> Points<'_> {
        let (images, KeyShape { dim, .. }) = (images(batch.shape()), batch.shape());
        let values = &mut self.values[number * images * dim..][..images * dim];
        let mean = &mut self.sums[number * dim..][..dim];
        let share = 1.0 / images as f32;
        mean.iter_mut().for_each(|sum| *sum *= share);
        if rounds(batch, products) {
            return Points { rounded: Some(Rounded { mean, norms: &[] }), ..Points::new(batch, values) };
        }
        dispatch_lanes(Centre { values, mean });
        Points::new(batch, values)
    }
}

/// Computes the inner products of points that are to be rounded: `[Ng, stride]` of the samples with the targets, and if there is
/// room, those of the targets that are no samples, their rows filled up to whole vectors.
pub(super) fn multiply<'a>(
    points: Points<'a>,
    memory: &'a mut RoundedRows,
    (of_targets, of_others): (&mut [f32], &mut [f32]),
) -> Points<'a> {
    let Some(Rounded { mean, .. }) = points.rounded else { return points };
    let stride = points.others_stride();
    let of_others = (!of_others.is_empty()).then_some(Places { values: of_others, stride });
    let of_targets = Places { values: of_targets, stride: points.columns.stride() };
    let norms = memory.multiply([points.samples(), points.others()], mean, of_targets, of_others);
    Points { rounded: Some(Rounded { mean, norms }), ..points }
}

/// Whether points are rounded: differences to samples that are no targets are taken from the points themselves.
fn rounds(batch: &KeyBatch<'_>, products: Products) -> bool {
    products == Products::Bf16 && batch.columns().own > 0
}

struct Gather<'a, 'b> {
    batch: &'a KeyBatch<'b>,
    first: usize,
    values: &'a mut [f32],
    sums: &'a mut [f32],
}

impl LaneKernel for Gather<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { batch, first, values, sums } = self;
        let (locations, dim) = (batch.shape().locations, batch.shape().dim);
        let (group, location) = (first / locations, first % locations);
        let problem = images(batch.shape()) * dim;
        let features = batch.features();
        let mut place = 0;
        for set in [features.generated, features.unconditional, features.positives] {
            for image in batch.images(set, group) {
                let vectors = image[location * dim..].chunks_exact(dim);
                let problems = values.chunks_exact_mut(problem).zip(sums.chunks_exact_mut(dim));
                for (vector, (problem, sums)) in vectors.zip(problems) {
                    let (to, to_rest) = problem[place..][..dim].as_chunks_mut::<LANES>();
                    let (from, from_rest) = vector.as_chunks::<LANES>();
                    let (sums, sums_rest) = sums.as_chunks_mut::<LANES>();
                    for ((to, from), sum) in to.iter_mut().zip(from).zip(sums) {
                        let numbers = Lanes::<S, N>::load(simd, from);
                        numbers.store(to);
                        Lanes::load(simd, sum).add(simd, numbers).store(sum);
                    }
                    to_rest.copy_from_slice(from_rest);
                    for (sum, number) in sums_rest.iter_mut().zip(from_rest) {
                        *sum += number;
                    }
                }
                place += dim;
            }
        }
    }
}

/// Takes `mean` from all points.
struct Centre<'a> {
    values: &'a mut [f32],
    mean: &'a [f32],
}

impl LaneKernel for Centre<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { values, mean } = self;
        let dim = mean.len();
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
