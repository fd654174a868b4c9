//! The first phase: distances.

use drifting_models::ops::simd::LANES;
use drifting_models::profile;
use rayon::prelude::*;

use super::{Drifts, SCRATCH, Scratch, check_groups};
use crate::drift::DriftError;
use crate::drift::batch::{KeyBatch, KeyShape};
use crate::drift::points;
use crate::drift::scale::{Mean, Units};
use crate::drift::settings::{Distances, DriftSettings};
use crate::drift::spare::Spare;
use crate::drift::spread;

/// Numbers of an image that one task takes at least, where it has so many: vectors that lie side by side are read together.
const STRETCH: usize = 512;

/// The distances of all problems of a batch (method step 1).
#[derive(Debug)]
pub struct Measured<'a> {
    pub(super) batch: KeyBatch<'a>,
    pub(super) settings: &'a DriftSettings,
    /// Of each problem d `[Ng, stride]`, and if drifts are squared by them, the squared distances of all pairs of targets
    /// that are no samples.
    pub(super) distances: Spare,
    pub(super) sizes: Sizes,
    means: Vec<Mean>,
}

/// Numbers that are kept of one problem, and problems that one task takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) distances: usize,
    pub(super) squares: usize,
    pub(super) stretch: usize,
}

impl Sizes {
    /// Distances and squares.
    pub(super) fn problem(&self) -> usize {
        self.distances + self.squares
    }

    /// Distances and squares of the problems of a task.
    pub(super) fn task(&self) -> usize {
        self.stretch * self.problem()
    }
}

impl<'a> Measured<'a> {
    /// Measures the distances of `batch`.
    ///
    /// # Errors
    /// Settings that contradict each other, features that are not finite.
    pub fn new(batch: &KeyBatch<'a>, settings: &'a DriftSettings) -> Result<Self, DriftError> {
        let (shape, columns) = (batch.shape(), batch.columns());
        let pays =
            settings.distances == Distances::Accurate && spread::pays(shape, columns, settings.temperatures.len());
        let others = columns.targets - columns.own;
        let squares = if pays { others * others.next_multiple_of(LANES) } else { 0 };
        Self::with_squares(batch, settings, squares)
    }

    /// Keeps `squares` numbers for squared distances of each problem.
    fn with_squares(batch: &KeyBatch<'a>, settings: &'a DriftSettings, squares: usize) -> Result<Self, DriftError> {
        let _span = profile::span("distances");
        settings.validate()?;
        let (shape, columns) = (batch.shape(), batch.columns());
        let sizes = Sizes { distances: shape.generated * columns.stride(), squares, stretch: stretch(shape) };
        let mut distances = Spare::of(shape.problems() * sizes.problem());
        let weights = batch.features().weight;
        let tasks = distances.par_chunks_exact_mut(sizes.task()).enumerate();
        let measure = |scratch: &mut Scratch, task: usize, distances: &mut [f32]| {
            let Scratch { ruler, points: gathered, rows, .. } = scratch;
            let first = task * sizes.stretch;
            let weight = weights[first / shape.locations];
            gathered.gather(batch, first, sizes.stretch);
            let measure = |(number, distances): (usize, &mut [f32])| {
                let (distances, squares) = distances.split_at_mut(sizes.distances);
                if settings.distances == Distances::Expanded {
                    let points = gathered.points(batch, number);
                    ruler.check(points, batch, first + number)?;
                    return Ok(ruler.measure_expanded(points, weight, distances));
                }
                let points = gathered.centred(batch, number, settings.products);
                let points = points::multiply(points, rows, (distances, squares));
                ruler.check(points, batch, first + number)?;
                if !squares.is_empty() {
                    ruler.measure_others(points, squares);
                }
                Ok(ruler.measure(points, weight, distances))
            };
            distances.chunks_exact_mut(sizes.problem()).enumerate().map(measure).collect::<Result<Vec<_>, _>>()
        };
        let tasks = tasks.map(|(task, distances)| SCRATCH.with_borrow_mut(|scratch| measure(scratch, task, distances)));
        let sums: Vec<f64> = in_order(tasks.collect())?.concat();
        let means = group_means(batch, &sums);
        Ok(Self { batch: *batch, settings, distances, sizes, means })
    }

    /// Mean of d W over mean of W of each class group (method step 2).
    #[must_use]
    pub fn distance_means(&self) -> &[Mean] {
        &self.means
    }

    /// The drifts with S = `mean_distances`, one number for each class group.
    ///
    /// # Errors
    /// Another number of groups.
    pub fn drifts(&self, mean_distances: &[f64]) -> Result<Drifts<'_>, DriftError> {
        let _span = profile::span("drift field");
        let shape = self.batch.shape();
        check_groups(self.batch.key(), "mean distances", mean_distances.len(), shape.groups)?;
        let units = mean_distances.iter().map(|&distance| Units::new(distance, shape.dim, self.settings)).collect();
        Ok(Drifts::measure(self, units))
    }
}

/// Mean of d W over mean of W of each class group, as [`Measured::distance_means`] gives it, where nothing else is wanted.
///
/// # Errors
/// As [`Measured::new`].
pub fn distance_means(batch: &KeyBatch<'_>, settings: &DriftSettings) -> Result<Vec<Mean>, DriftError> {
    Ok(Measured::with_squares(batch, settings, 0)?.means)
}

/// Locations of one group that one task takes: they divide all of them.
fn stretch(KeyShape { locations, dim, .. }: KeyShape) -> usize {
    let most = (STRETCH / dim).clamp(1, locations);
    (1..=most).rev().find(|&stretch| locations.is_multiple_of(stretch)).unwrap_or(1)
}

/// All results, or the first error in their order.
fn in_order<T>(results: Vec<Result<T, DriftError>>) -> Result<Vec<T>, DriftError> {
    results.into_iter().collect()
}

/// Mean distance of each group from the sums of d W of its problems.
fn group_means(batch: &KeyBatch<'_>, sums: &[f64]) -> Vec<Mean> {
    let KeyShape { locations, generated, .. } = batch.shape();
    let count = |group: usize| (locations * generated) as f64 * batch.weight_sum(group);
    let groups = sums.chunks_exact(locations).enumerate();
    groups.map(|(group, sums)| Mean { sum: sums.iter().sum(), count: count(group) }).collect()
}
