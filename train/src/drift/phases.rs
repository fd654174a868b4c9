//! The objective of one key in phases, so that class groups can be worked a few at a time (method section 18).
//!
//! Two normalisations average over all class groups of a step: S over distances, m over drifts. With all groups at hand the
//! phases follow each other; streamed, each phase goes over all groups before the next begins:
//!
//! 1. [`Measured`]: the distances of every group, whose means are pooled to S;
//! 2. [`Measured::drifts`] with that S: [`Drifts::square_means`] of every group, pooled to m;
//! 3. [`Drifts::outcome`] with m: the loss and the gradient.
//!
//! Only distances are kept from phase to phase. The drifts of a problem are computed in memory that belongs to a thread, once
//! for their squares and once, all temperatures in one, for their sum.

use drifting_models::ops::simd::{Kernel, dispatch_kernel};
use drifting_models::profile;
use rayon::prelude::*;

use super::DriftError;
use super::batch::{KeyBatch, KeyShape};
use super::force::{self, Coefficients};
use super::loss::KeyOutcome;
use super::numeric::{squares, sum_of_squares};
use super::problem::{Points, weighted_distance_sum};
use super::scale::{Mean, Units, drift_factor};
use super::settings::{Distances, DriftSettings, Reduction, TemperatureAggregation};
use super::spread::{self, Spread};

/// Numbers of an image that one task takes at least, where it has so many: vectors that lie side by side are read together.
const STRETCH: usize = 1024;
/// Coefficients that are kept from one phase to the next at most, in bytes; beyond it they are computed again.
const KEPT: usize = 64 << 20;

/// Memory of a thread, used for one problem after the other.
#[derive(Default)]
struct Scratch {
    points: Points,
    coefficients: Coefficients,
    spread: Spread,
    /// V `[temperatures, Ng, D]`, or F `[Ng, D]`.
    drifts: Vec<f32>,
}

/// The distances of all problems of a batch (method step 1).
#[derive(Debug)]
pub struct Measured<'a> {
    batch: KeyBatch<'a>,
    settings: &'a DriftSettings,
    /// Of each problem d `[Ng, targets]`, and if drifts are squared by them, the squared distances of all pairs of targets
    /// that are no samples.
    distances: Vec<f32>,
    sizes: Sizes,
    means: Vec<Mean>,
}

/// Numbers that are kept of one problem, and problems that one task takes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    distances: usize,
    squares: usize,
    stretch: usize,
}

impl Sizes {
    fn problem(&self) -> usize {
        self.distances + self.squares
    }

    /// Numbers that are kept of the problems of a task.
    fn task(&self) -> usize {
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
        Self::with_squares(batch, settings, if pays { (columns.targets - columns.own).pow(2) } else { 0 })
    }

    fn with_squares(batch: &KeyBatch<'a>, settings: &'a DriftSettings, squares: usize) -> Result<Self, DriftError> {
        let _span = profile::span("distances");
        settings.validate()?;
        let (shape, columns) = (batch.shape(), batch.columns());
        let sizes = Sizes { distances: shape.generated * columns.targets, squares, stretch: stretch(shape) };
        let mut kept = vec![0.0; shape.problems() * sizes.problem()];
        let weights = batch.features().weight;
        let tasks = kept.par_chunks_exact_mut(sizes.task()).enumerate();
        let sums = tasks.map_init(Points::default, |points, (task, kept)| {
            let problems = kept.chunks_exact_mut(sizes.problem()).enumerate();
            let measure = |(number, kept): (usize, &mut [f32])| {
                let index = task * sizes.stretch + number;
                let (distances, squares) = kept.split_at_mut(sizes.distances);
                points.gather(batch, index)?;
                match settings.distances {
                    Distances::Accurate => points.measure(distances),
                    Distances::Expanded => points.measure_expanded(batch, index, distances),
                }
                if !squares.is_empty() {
                    points.measure_others(squares);
                }
                Ok(weighted_distance_sum(distances, columns, weights[index / shape.locations]))
            };
            problems.map(measure).collect::<Result<Vec<_>, _>>()
        });
        let sums: Vec<f64> = in_order(sums.collect())?.concat();
        let means = group_means(batch, &sums);
        Ok(Self { batch: *batch, settings, distances: kept, sizes, means })
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
        let mut drifts = Drifts { measured: self, units, squares: Vec::new(), coefficients: Vec::new() };
        (drifts.squares, drifts.coefficients) = drifts.measure()?;
        Ok(drifts)
    }
}

/// Mean of d W over mean of W of each class group, as [`Measured::distance_means`] gives it, where nothing else is wanted.
///
/// # Errors
/// As [`Measured::new`].
pub fn distance_means(batch: &KeyBatch<'_>, settings: &DriftSettings) -> Result<Vec<Mean>, DriftError> {
    Ok(Measured::with_squares(batch, settings, 0)?.means)
}

/// The drifts V of all problems of a batch, of which only the sums of squares are kept (method steps 3-5).
#[derive(Debug)]
pub struct Drifts<'a> {
    measured: &'a Measured<'a>,
    units: Vec<Units>,
    /// Mean of V^2 of each temperature, of each class group.
    squares: Vec<Vec<Mean>>,
    /// Coefficients `[problems, temperatures, Ng, targets]`, if they are small enough to be kept.
    coefficients: Vec<f32>,
}

impl Drifts<'_> {
    /// Mean of V^2 of each temperature, of each class group (method step 5).
    #[must_use]
    pub fn square_means(&self) -> &[Vec<Mean>] {
        &self.squares
    }

    /// Loss and gradient with m = `mean_squares`, of each temperature and each class group, in a step of `groups` class
    /// groups in all (method step 6). Of the losses of a streamed step, the sum is the step's.
    ///
    /// # Errors
    /// Another number of groups.
    pub fn outcome(&self, mean_squares: &[Vec<f64>], groups: usize) -> Result<KeyOutcome, DriftError> {
        let _span = profile::span("drift loss");
        let settings = self.measured.settings;
        let KeyShape { locations, generated, dim, .. } = self.measured.batch.shape();
        let slots = match settings.reduction {
            Reduction::Mean => 1.0,
            Reduction::Sum => locations as f64,
        };
        let count = (groups * generated * locations * dim) as f64;
        let slopes: Vec<_> =
            self.units.iter().map(|units| (-2.0 * slots / (f64::from(units.feature) * count)) as f32).collect();
        let (gradient, squared_sum) = self.add_up(mean_squares, &slopes)?;
        let square = match settings.temperature_aggregation {
            TemperatureAggregation::SumDrifts => squared_sum,
            TemperatureAggregation::SumLosses => {
                let means = self.squares.iter().flatten().zip(mean_squares.iter().flatten());
                means.map(|(mean, &square)| mean.sum * drift_factor(square, settings).powi(2)).sum()
            }
        };
        Ok(KeyOutcome { gradient, loss: slots * square / count })
    }

    /// F `[groups * Ng, T, D]` with m = `mean_squares`.
    pub(super) fn force(&self, mean_squares: &[Vec<f64>]) -> Result<Vec<f32>, DriftError> {
        Ok(self.add_up(mean_squares, &vec![1.0; self.units.len()])?.0)
    }

    /// Sums of V^2 of each temperature and class group as means, and the coefficients to keep.
    fn measure(&self) -> Result<(Vec<Vec<Mean>>, Vec<f32>), DriftError> {
        let Measured { batch, settings, distances, sizes, .. } = self.measured;
        let KeyShape { locations, generated, dim, .. } = batch.shape();
        let temperatures = settings.temperatures.len();
        let each = temperatures * sizes.distances;
        let keeps = 4 * batch.shape().problems() * each <= KEPT;
        let mut coefficients = vec![0.0; if keeps { batch.shape().problems() * each } else { 0 }];
        let mut keep: Vec<_> = coefficients.chunks_exact_mut(each * sizes.stretch).collect();
        keep.resize_with(batch.shape().problems() / sizes.stretch, Default::default);
        let tasks = distances.par_chunks_exact(sizes.task()).zip(keep).enumerate();
        let sums = tasks.map_init(Scratch::default, |scratch, (task, (kept, keep))| {
            let mut keep = keep.chunks_exact_mut(each);
            let mut sums = vec![0.0; sizes.stretch * temperatures];
            let problems = kept.chunks_exact(sizes.problem()).zip(sums.chunks_exact_mut(temperatures));
            for (number, (kept, sums)) in problems.enumerate() {
                self.squares_of(task * sizes.stretch + number, kept, scratch, sums)?;
                if let Some(keep) = keep.next() {
                    keep.copy_from_slice(scratch.coefficients.values());
                }
            }
            Ok(sums)
        });
        let sums: Vec<f64> = in_order(sums.collect())?.concat();
        let count = (locations * generated * dim) as f64;
        let of = |group: &[f64], temperature| group.iter().skip(temperature).step_by(temperatures).sum();
        let groups = || sums.chunks_exact(locations * temperatures);
        let means = |temperature| groups().map(move |group| Mean { sum: of(group, temperature), count }).collect();
        Ok(((0..temperatures).map(means).collect(), coefficients))
    }

    /// Sum of V^2 of each temperature of one problem.
    fn squares_of(
        &self,
        index: usize,
        kept: &[f32],
        scratch: &mut Scratch,
        sums: &mut [f64],
    ) -> Result<(), DriftError> {
        let Measured { batch, sizes, .. } = self.measured;
        let KeyShape { locations, generated, dim, .. } = batch.shape();
        let Scratch { points, coefficients, spread, drifts } = scratch;
        let (units, (distances, others)) = (self.units[index / locations], kept.split_at(sizes.distances));
        self.find(index, distances, coefficients);
        let known =
            !others.is_empty() && spread.sums(coefficients.values(), (distances, others), batch.columns(), sums);
        if !known {
            points.gather(batch, index)?;
            drifts.resize(sums.len() * generated * dim, 0.0);
            force::drifts(coefficients.values(), points, dim, drifts);
            let drifts = drifts.chunks_exact(generated * dim);
            sums.iter_mut().zip(drifts).for_each(|(sum, drifts)| *sum = sum_of_squares(drifts));
        }
        let unit = f64::from(units.feature);
        sums.iter_mut().for_each(|sum| *sum /= unit * unit);
        Ok(())
    }

    /// The coefficients of problem `index` with its `distances`.
    fn find(&self, index: usize, distances: &[f32], coefficients: &mut Coefficients) {
        let Measured { batch, settings, .. } = self.measured;
        let group = index / batch.shape().locations;
        let (unit, weight) = (self.units[group].distance, batch.features().weight[group]);
        coefficients.find(distances, (unit, weight), batch.columns(), settings);
    }

    /// F = sum of V over the roots of m = `mean_squares`, image by image, times `slopes[group]`, and the sum of F^2.
    fn add_up(&self, mean_squares: &[Vec<f64>], slopes: &[f32]) -> Result<(Vec<f32>, f64), DriftError> {
        let Measured { batch, settings, distances, sizes, .. } = self.measured;
        let KeyShape { groups, locations, generated, dim, .. } = batch.shape();
        for squares in mean_squares {
            check_groups(batch.key(), "mean squares", squares.len(), groups)?;
        }
        let temperatures = settings.temperatures.len();
        let mut force = vec![0.0; groups * generated * locations * dim];
        let tasks = tasks(&mut force, batch.shape(), sizes.stretch);
        let tasks = tasks.into_par_iter().zip(distances.par_chunks_exact(sizes.task())).enumerate();
        let squares = tasks.map_init(Scratch::default, |scratch, (task, (mut images, kept))| {
            let Scratch { points, coefficients, drifts, .. } = scratch;
            let group = task * sizes.stretch / locations;
            let unit = f64::from(self.units[group].feature);
            let factor = |groups: &Vec<f64>| (drift_factor(groups[group], settings) / unit) as f32;
            let factors: Vec<f32> = mean_squares.iter().map(factor).collect();
            drifts.resize(generated * dim, 0.0);
            let mut square = 0.0;
            for (number, kept) in kept.chunks_exact(sizes.problem()).enumerate() {
                let index = task * sizes.stretch + number;
                match self.coefficients.chunks_exact(temperatures * sizes.distances).nth(index) {
                    Some(found) => coefficients.load(found, temperatures),
                    None => self.find(index, &kept[..sizes.distances], coefficients),
                }
                points.gather(batch, index)?;
                force::drifts(coefficients.sum_up(&factors), points, dim, drifts);
                square += dispatch_kernel(Place { drifts, slope: slopes[group], number, images: &mut images, dim });
            }
            Ok(square)
        });
        let squares: Vec<f64> = in_order(squares.collect())?;
        Ok((force, squares.iter().sum()))
    }
}

/// `force` `[groups * Ng, T, D]` cut into what tasks of `stretch` locations of one group write: for each task the numbers of
/// each image `[stretch, D]`.
fn tasks(force: &mut [f32], shape: KeyShape, stretch: usize) -> Vec<Vec<&mut [f32]>> {
    let KeyShape { groups, locations, generated, dim, .. } = shape;
    let per_group = locations / stretch;
    let mut tasks: Vec<_> = (0..groups * per_group).map(|_| Vec::with_capacity(generated)).collect();
    for (image, numbers) in force.chunks_exact_mut(locations * dim).enumerate() {
        let tasks = tasks[image / generated * per_group..].iter_mut();
        tasks.zip(numbers.chunks_exact_mut(stretch * dim)).for_each(|(task, numbers)| task.push(numbers));
    }
    tasks
}

/// Locations of one group that one task takes: they divide all of them.
fn stretch(KeyShape { locations, dim, .. }: KeyShape) -> usize {
    let most = (STRETCH / dim).clamp(1, locations);
    (1..=most).rev().find(|&stretch| locations.is_multiple_of(stretch)).unwrap_or(1)
}

/// Writes F of one location times `slope` to the images; gives the sum of the squares of F.
struct Place<'a, 'b> {
    /// F `[Ng, D]`.
    drifts: &'a [f32],
    slope: f32,
    /// Position of the location in what follows.
    number: usize,
    /// Of each image `[.., D]`.
    images: &'a mut [&'b mut [f32]],
    dim: usize,
}

impl Kernel for Place<'_, '_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let Self { drifts, slope, number, images, dim } = self;
        let mut square = 0.0;
        for (image, drift) in images.iter_mut().zip(drifts.chunks_exact(dim)) {
            for (place, drift) in image[number * dim..][..dim].iter_mut().zip(drift) {
                *place = drift * slope;
            }
            square += squares(drift);
        }
        square
    }
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

fn check_groups(key: &str, what: &str, found: usize, expected: usize) -> Result<(), DriftError> {
    if found == expected {
        return Ok(());
    }
    Err(DriftError::Shape { key: key.to_owned(), problem: format!("{found} {what} for {expected} class groups") })
}
