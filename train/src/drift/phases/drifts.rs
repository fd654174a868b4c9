//! The second and third phase: drifts, loss and gradient.

use drifting_models::ops::lanes::dispatch_lanes;
use drifting_models::ops::written_across;
use drifting_models::profile;
use rayon::prelude::*;

use super::{Measured, SCRATCH, Scratch, check_groups};
use crate::drift::DriftError;
use crate::drift::batch::KeyShape;
use crate::drift::force::{self, Coefficients};
use crate::drift::loss::KeyOutcome;
use crate::drift::numeric::sum_of_squares;
use crate::drift::place::Place;
use crate::drift::scale::{Mean, Units, drift_factor};
use crate::drift::settings::{Reduction, TemperatureAggregation};
use crate::drift::spare::{Spare, some};

/// Drifts or coefficients that are kept from one phase to the next at most, in bytes.
const KEPT: usize = 64 << 20;

/// What is kept for the last phase.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// V `[problems, temperatures, Ng, D]`.
    Drifts,
    /// Coefficients `[problems, temperatures, Ng, stride]`.
    Coefficients,
    Nothing,
}

impl Kept {
    /// What is kept of the drifts, and how many numbers of each problem.
    fn of(measured: &Measured<'_>) -> (Self, usize) {
        let shape = measured.batch.shape();
        let rows = measured.settings.temperatures.len() * shape.generated;
        let (drifts, coefficients) = (rows * shape.dim, rows * measured.batch.columns().stride());
        let few = |numbers: usize| 4 * shape.problems() * numbers <= KEPT;
        // Drifts save a product of matrices more.
        if measured.sizes.squares == 0 && drifts <= 2 * coefficients && few(drifts) {
            (Self::Drifts, drifts)
        } else if few(coefficients) {
            (Self::Coefficients, coefficients)
        } else {
            (Self::Nothing, 0)
        }
    }
}

/// The drifts V of all problems of a batch, of which only the sums of squares are kept (method steps 3-5).
#[derive(Debug)]
pub struct Drifts<'a> {
    measured: &'a Measured<'a>,
    units: Vec<Units>,
    /// Mean of V^2 of each temperature, of each class group.
    squares: Vec<Vec<Mean>>,
    kept: (Kept, Spare),
}

impl<'a> Drifts<'a> {
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
    pub(in crate::drift) fn force(&self, mean_squares: &[Vec<f64>]) -> Result<Vec<f32>, DriftError> {
        Ok(self.add_up(mean_squares, &vec![1.0; self.units.len()])?.0)
    }

    /// Sums of V^2 of each temperature and class group as means, and what is kept.
    pub(super) fn measure(measured: &'a Measured<'a>, units: Vec<Units>) -> Self {
        let Measured { batch, settings, distances, sizes, .. } = measured;
        let KeyShape { locations, generated, dim, .. } = batch.shape();
        let temperatures = settings.temperatures.len();
        let (kept, each) = Kept::of(measured);
        let mut numbers = Spare::of(batch.shape().problems() * each);
        let mut keep: Vec<_> = numbers.chunks_exact_mut((each * sizes.stretch).max(1)).collect();
        keep.resize_with(batch.shape().problems() / sizes.stretch, Default::default);
        let mut drifts = Self { measured, units, squares: Vec::new(), kept: (kept, Spare::default()) };
        let tasks = distances.par_chunks_exact(sizes.task()).zip(keep).enumerate();
        let squares = |scratch: &mut Scratch, task: usize, distances: &[f32], keep: &mut [f32]| {
            let first = task * sizes.stretch;
            if sizes.squares == 0 {
                scratch.points.gather(batch, first, sizes.stretch);
            }
            let mut keep = keep.chunks_exact_mut(each.max(1));
            let mut sums = vec![0.0; sizes.stretch * temperatures];
            let problems = distances.chunks_exact(sizes.problem()).zip(sums.chunks_exact_mut(temperatures));
            for (number, (distances, sums)) in problems.enumerate() {
                drifts.squares_of((first, number), distances, keep.next().unwrap_or_default(), scratch, sums);
            }
            sums
        };
        let sums = tasks.map(|(task, (distances, keep))| {
            SCRATCH.with_borrow_mut(|scratch| squares(scratch, task, distances, keep))
        });
        let sums: Vec<f64> = sums.collect::<Vec<_>>().concat();
        let count = (locations * generated * dim) as f64;
        let of = |group: &[f64], temperature| group.iter().skip(temperature).step_by(temperatures).sum();
        let groups = || sums.chunks_exact(locations * temperatures);
        let means = |temperature| groups().map(move |group| Mean { sum: of(group, temperature), count }).collect();
        drifts.squares = (0..temperatures).map(means).collect();
        drifts.kept.1 = numbers;
        drifts
    }

    /// Sum of V^2 of each temperature of problem `first` + `number` into `sums`, and what is kept of it into `keep`.
    fn squares_of(
        &self,
        (first, number): (usize, usize),
        measured: &[f32],
        keep: &mut [f32],
        scratch: &mut Scratch,
        sums: &mut [f64],
    ) {
        let Measured { batch, settings, sizes, .. } = self.measured;
        let KeyShape { locations, generated, dim, .. } = batch.shape();
        let Scratch { points: gathered, finder, coefficients, spread, drifts, sums: memory, .. } = scratch;
        let (units, (distances, others)) = (self.units[first / locations], measured.split_at(sizes.distances));
        let coefficients = some(coefficients, sums.len() * sizes.distances);
        let drifts = some(drifts, sums.len() * generated * dim);
        let (coefficients, drifts) = match self.kept.0 {
            Kept::Drifts => (coefficients, keep),
            Kept::Coefficients => (keep, drifts),
            Kept::Nothing => (coefficients, drifts),
        };
        self.find(first, distances, finder, coefficients);
        let known = !others.is_empty() && spread.sums(coefficients, (distances, others), batch.columns(), sums);
        if !known {
            let number = if others.is_empty() {
                number
            } else {
                gathered.gather(batch, first + number, 1);
                0
            };
            force::drifts(coefficients, gathered.centred(batch, number, settings.products), memory, drifts);
            let drifts = drifts.chunks_exact(generated * dim);
            sums.iter_mut().zip(drifts).for_each(|(sum, drifts)| *sum = sum_of_squares(drifts));
        }
        let unit = f64::from(units.feature);
        sums.iter_mut().for_each(|sum| *sum /= unit * unit);
    }

    /// The coefficients of a problem with its `distances`, of the group of problem `index`.
    fn find(&self, index: usize, distances: &[f32], finder: &mut Coefficients, coefficients: &mut [f32]) {
        let Measured { batch, settings, .. } = self.measured;
        let group = index / batch.shape().locations;
        let (unit, weight) = (self.units[group].distance, batch.features().weight[group]);
        finder.find(distances, (unit, weight), batch.columns(), settings, coefficients);
    }

    /// F = sum of V over the roots of m = `mean_squares`, image by image, times `slopes[group]`, and the sum of F^2.
    fn add_up(&self, mean_squares: &[Vec<f64>], slopes: &[f32]) -> Result<(Vec<f32>, f64), DriftError> {
        let Measured { batch, settings, distances, sizes, .. } = self.measured;
        let KeyShape { groups, locations, generated, dim, .. } = batch.shape();
        for squares in mean_squares {
            check_groups(batch.key(), "mean squares", squares.len(), groups)?;
        }
        let forces = |scratch: &mut Scratch, task: usize, images: &mut [&mut [f32]], measured: &[f32]| {
            let first = task * sizes.stretch;
            let group = first / locations;
            let unit = f64::from(self.units[group].feature);
            let factor = |groups: &Vec<f64>| (drift_factor(groups[group], settings) / unit) as f32;
            let factors: Vec<f32> = mean_squares.iter().map(factor).collect();
            if !matches!(self.kept.0, Kept::Drifts) {
                scratch.points.gather(batch, first, sizes.stretch);
            }
            let mut square = 0.0;
            for (number, measured) in measured.chunks_exact(sizes.problem()).enumerate() {
                self.sum_of((first, number), &measured[..sizes.distances], &factors, scratch, |first, drifts| {
                    let first = number * dim + first;
                    square += dispatch_lanes(Place { drifts, slope: slopes[group], first, images });
                });
            }
            square
        };
        let images = (groups * generated, locations / sizes.stretch, sizes.stretch * dim);
        let (force, squares) = written_across(images, generated, |task, images| {
            let measured = &distances[task * sizes.task()..][..sizes.task()];
            SCRATCH.with_borrow_mut(|scratch| forces(scratch, task, images, measured))
        });
        Ok((force, squares.iter().sum()))
    }

    /// F `[Ng, D]` of problem `first` + `number`: the sum of V of each temperature times its factor. `take` gets the first number of
    /// each vector that a part holds, and the part.
    fn sum_of(
        &self,
        (first, number): (usize, usize),
        distances: &[f32],
        factors: &[f32],
        scratch: &mut Scratch,
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let Measured { batch, settings, .. } = self.measured;
        let KeyShape { generated, dim, .. } = batch.shape();
        let Scratch { points: gathered, finder, coefficients, sum, drifts, sums, .. } = scratch;
        let drifts = some(drifts, generated * dim);
        let (kept, numbers) = &self.kept;
        let each = numbers.len() / batch.shape().problems();
        let numbers = &numbers[(first + number) * each..][..each];
        let coefficients = match kept {
            Kept::Drifts => {
                force::sum_up(numbers, factors, drifts);
                return take(0, drifts);
            }
            Kept::Coefficients => numbers,
            Kept::Nothing => {
                let coefficients = some(coefficients, factors.len() * distances.len());
                self.find(first, distances, finder, coefficients);
                coefficients
            }
        };
        let sum = some(sum, distances.len());
        force::sum_up(coefficients, factors, sum);
        force::each_part(sum, gathered.centred(batch, number, settings.products), (sums, drifts), take);
    }
}
