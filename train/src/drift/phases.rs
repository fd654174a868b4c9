//! The objective of one key in phases, so that class groups can be worked a few at a time (method section 18).
//!
//! Two normalisations average over all class groups of a step: S over distances, m over drifts. With all groups at hand the
//! phases follow each other; streamed, each phase goes over all groups before the next begins:
//!
//! 1. [`distance_means`] of every group, pooled to S;
//! 2. [`Drifts`] with that S: [`Drifts::square_means`] of every group, pooled to m;
//! 3. [`Drifts`] again: [`Drifts::outcome`] with S and m, the loss and the gradient.

use drifting_models::ops::simd::{Kernel, dispatch_kernel};
use drifting_models::profile;
use rayon::prelude::*;

use super::DriftError;
use super::batch::{KeyBatch, KeyShape};
use super::force;
use super::loss::KeyOutcome;
use super::numeric::{squares, sum_of_squares};
use super::problem::Problem;
use super::scale::{Mean, Units, drift_factor};
use super::settings::{Distances, DriftSettings, Reduction, TemperatureAggregation};

/// Mean of d W over mean of W of each class group (method step 2).
///
/// # Errors
/// Features that are not finite.
pub fn distance_means(batch: &KeyBatch<'_>, settings: &DriftSettings) -> Result<Vec<Mean>, DriftError> {
    let _span = profile::span("distances");
    let sums = each_problem(batch, settings.distances, Problem::weighted_distance_sum)?;
    Ok(group_means(batch, &sums))
}

/// The drifts V of all problems of a batch (method steps 3-5).
#[derive(Debug)]
pub struct Drifts {
    key: String,
    shape: KeyShape,
    units: Vec<Units>,
    distances: Vec<Mean>,
    /// V `[problems, temperatures, Ng, D]`.
    drifts: Vec<f32>,
    temperatures: usize,
}

impl Drifts {
    /// The drifts of `batch` with S = `mean_distances`, one number for each class group.
    ///
    /// # Errors
    /// Settings that contradict each other, features that are not finite, another number of groups.
    pub fn new(batch: &KeyBatch<'_>, mean_distances: &[f64], settings: &DriftSettings) -> Result<Self, DriftError> {
        let _span = profile::span("drift field");
        settings.validate()?;
        let shape = batch.shape();
        check_groups(batch.key(), "mean distances", mean_distances.len(), shape.groups)?;
        let units: Vec<_> = mean_distances.iter().map(|&distance| Units::new(distance, shape.dim, settings)).collect();
        let temperatures = settings.temperatures.len();
        let len = temperatures * shape.generated * shape.dim;
        let mut drifts = vec![0.0; shape.problems() * len];
        let problems = drifts.par_chunks_exact_mut(len).enumerate().map(|(index, drifts)| {
            let problem = Problem::new(batch, index, settings.distances)?;
            force::drifts(&problem, units[index / shape.locations], settings, drifts);
            Ok(problem.weighted_distance_sum())
        });
        let sums: Vec<f64> = in_order(problems.collect())?;
        let (key, distances) = (batch.key().to_owned(), group_means(batch, &sums));
        Ok(Self { key, shape, units, distances, drifts, temperatures })
    }

    /// As [`distance_means`].
    #[must_use]
    pub fn distance_means(&self) -> &[Mean] {
        &self.distances
    }

    /// Mean of V^2 of each temperature, of each class group (method step 5).
    #[must_use]
    pub fn square_means(&self) -> Vec<Vec<Mean>> {
        let KeyShape { locations, generated, dim, .. } = self.shape;
        let vectors = generated * dim;
        let count = (locations * vectors) as f64;
        let of = |temperature: usize| -> Vec<Mean> {
            let square = |drifts: &[f32]| sum_of_squares(&drifts[temperature * vectors..][..vectors]);
            let problems = self.drifts.par_chunks_exact(self.temperatures * vectors);
            let sums: Vec<f64> = problems.map(square).collect();
            sums.chunks_exact(locations).map(|group| Mean { sum: group.iter().sum(), count }).collect()
        };
        (0..self.temperatures).map(of).collect()
    }

    /// Loss and gradient with m = `mean_squares`, of each temperature and each class group, in a step of `groups` class
    /// groups in all (method step 6). Of the losses of a streamed step, the sum is the step's.
    ///
    /// # Errors
    /// Another number of groups.
    pub fn outcome(
        &self,
        mean_squares: &[Vec<f64>],
        groups: usize,
        settings: &DriftSettings,
    ) -> Result<KeyOutcome, DriftError> {
        let _span = profile::span("drift loss");
        let KeyShape { locations, generated, dim, .. } = self.shape;
        for squares in mean_squares {
            check_groups(&self.key, "mean squares", squares.len(), self.shape.groups)?;
        }
        let factors = self.factors(mean_squares, settings);
        let slots = match settings.reduction {
            Reduction::Mean => 1.0,
            Reduction::Sum => locations as f64,
        };
        let count = (groups * generated * locations * dim) as f64;
        let slopes: Vec<_> =
            self.units.iter().map(|units| (-2.0 * slots / (f64::from(units.feature) * count)) as f32).collect();
        let (gradient, squared_sum) = self.add_up(&factors, &slopes);
        let square = match settings.temperature_aggregation {
            TemperatureAggregation::SumDrifts => squared_sum,
            TemperatureAggregation::SumLosses => {
                let means = self.square_means();
                let squares = means.iter().flatten().zip(factors.iter().flatten());
                squares.map(|(mean, factor)| mean.sum * factor * factor).sum()
            }
        };
        Ok(KeyOutcome { gradient, loss: slots * square / count })
    }

    /// F `[groups * Ng, T, D]` with m = `mean_squares`.
    pub(super) fn force(&self, mean_squares: &[Vec<f64>], settings: &DriftSettings) -> Vec<f32> {
        self.add_up(&self.factors(mean_squares, settings), &vec![1.0; self.shape.groups]).0
    }

    fn factors(&self, mean_squares: &[Vec<f64>], settings: &DriftSettings) -> Vec<Vec<f64>> {
        let factor = |&square: &f64| drift_factor(square, settings);
        mean_squares.iter().map(|squares| squares.iter().map(factor).collect()).collect()
    }

    /// F = sum of V times `factors[temperature][group]`, image by image, times `slopes[group]`, and the sum of F^2.
    fn add_up(&self, factors: &[Vec<f64>], slopes: &[f32]) -> (Vec<f32>, f64) {
        let KeyShape { groups, locations, generated, dim, .. } = self.shape;
        let mut force = vec![0.0; groups * generated * locations * dim];
        let images = force.par_chunks_exact_mut(locations * dim).enumerate();
        let squares: Vec<_> = images
            .map(|(image, force)| {
                let group = image / generated;
                let factors: Vec<f32> = factors.iter().map(|groups| groups[group] as f32).collect();
                let slope = slopes[group];
                dispatch_kernel(AddUp {
                    drifts: self,
                    group,
                    sample: image % generated,
                    factors: &factors,
                    slope,
                    force,
                })
            })
            .collect();
        (force, squares.iter().sum())
    }
}

/// F of one image times `slope`; gives the sum of the squares of F.
struct AddUp<'a> {
    drifts: &'a Drifts,
    group: usize,
    sample: usize,
    /// Of each temperature.
    factors: &'a [f32],
    slope: f32,
    /// `[T, D]`.
    force: &'a mut [f32],
}

impl Kernel for AddUp<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let KeyShape { locations, generated, dim, .. } = self.drifts.shape;
        let len = self.drifts.temperatures * generated * dim;
        let problems = self.drifts.drifts[self.group * locations * len..].chunks_exact(len);
        for (vector, drifts) in self.force.chunks_exact_mut(dim).zip(problems) {
            for (temperature, factor) in self.factors.iter().enumerate() {
                let drift = &drifts[(temperature * generated + self.sample) * dim..][..dim];
                vector.iter_mut().zip(drift).for_each(|(force, drift)| *force += factor * drift);
            }
        }
        let square = squares(self.force);
        self.force.iter_mut().for_each(|force| *force *= self.slope);
        square
    }
}

/// `compute` for every problem, in their order; the error is that of the first problem that has one.
fn each_problem<T: Send>(
    batch: &KeyBatch<'_>,
    how: Distances,
    compute: impl Fn(&Problem) -> T + Sync,
) -> Result<Vec<T>, DriftError> {
    let problems = (0..batch.shape().problems()).into_par_iter();
    in_order(problems.map(|index| Ok(compute(&Problem::new(batch, index, how)?))).collect())
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
