//! From affinities to the drift V (method step 5, second half; paper Algorithm 2, eq. 8-11).

use drifting_models::ops::matmul::{Matrix, Threads, matmul};
use drifting_models::ops::simd::{self, dispatch_kernel};

use super::affinity::{Affinities, BothAxes, Nearest, is_official};
use super::batch::Columns;
use super::numeric::{inverse, sum};
use super::problem::Problem;
use super::scale::Units;
use super::settings::{Coupling, DriftSettings, Kernel};

/// V for every temperature, `[temperatures, Ng, D]`, of the features divided by `units.feature`, into `drifts`.
pub(super) fn drifts(problem: &Problem, units: Units, settings: &DriftSettings, drifts: &mut [f32]) {
    let (columns, dim) = (problem.columns(), problem.dim());
    let distances = problem.scaled_distances(units.distance, settings.mask_self_negatives.then_some(settings.mask));
    let mut coefficients = vec![0.0; settings.temperatures.len() * distances.len()];
    let nearest = is_official(settings).then(|| dispatch_kernel(FindNearest { distances: &distances, columns }));
    for (&temperature, weights) in settings.temperatures.iter().zip(coefficients.chunks_exact_mut(distances.len())) {
        match &nearest {
            Some(nearest) => dispatch_kernel(BothAxes {
                columns,
                weight: problem.weight(),
                distances: &distances,
                nearest,
                temperature,
                floor: settings.floor,
                affinities: weights,
            }),
            None => weights.copy_from_slice(&dispatch_kernel(Affinities {
                problem,
                distances: &distances,
                temperature,
                settings,
            })),
        }
        match settings.coupling {
            Coupling::Mmd => kernel_gradient(weights, &distances, problem, temperature, settings),
            Coupling::Joint | Coupling::Separate | Coupling::Split => {
                dispatch_kernel(Couple { weights, columns, settings });
            }
        }
    }
    let rows = coefficients.len() / columns.targets;
    let weights = Matrix::new(&coefficients, rows, columns.targets);
    matmul(drifts, weights, Matrix::new(problem.targets(), columns.targets, dim), 1.0, Threads::One);
    dispatch_kernel(Relative { drifts, coefficients: &coefficients, problem, units });
}

/// [`Nearest`] with the instructions of the processor at hand.
struct FindNearest<'a> {
    distances: &'a [f32],
    columns: Columns,
}

impl simd::Kernel for FindNearest<'_> {
    type Output = Nearest;

    #[inline(always)]
    fn run(self) -> Nearest {
        Nearest::of(self.distances, self.columns.targets)
    }
}

/// From sums of c y to those of c (y - x), in units of the features. The sum of c is 0 up to rounding, unless attraction
/// and repulsion differ.
struct Relative<'a> {
    drifts: &'a mut [f32],
    coefficients: &'a [f32],
    problem: &'a Problem,
    units: Units,
}

impl simd::Kernel for Relative<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (dim, targets) = (self.problem.dim(), self.problem.columns().targets);
        let unit = 1.0 / self.units.feature;
        let rows = self.drifts.chunks_exact_mut(dim).zip(self.coefficients.chunks_exact(targets));
        for ((drift, coefficients), sample) in rows.zip(self.problem.samples().chunks_exact(dim).cycle()) {
            let total = sum(coefficients);
            for (drift, x) in drift.iter_mut().zip(sample) {
                *drift = (*drift - total * x) * unit;
            }
        }
    }
}

/// Affinities become coefficients of the targets: negative for negatives, positive for positives.
struct Couple<'a> {
    weights: &'a mut [f32],
    columns: Columns,
    settings: &'a DriftSettings,
}

impl simd::Kernel for Couple<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { weights, columns, settings } = self;
        for row in weights.chunks_exact_mut(columns.targets) {
            let (negative, positive) = row.split_at_mut(columns.negatives);
            let (negative_mass, positive_mass) = (sum(negative), sum(positive));
            let (push, pull) = match settings.coupling {
                Coupling::Joint => (positive_mass, negative_mass),
                _ => (inverse(negative_mass), inverse(positive_mass)),
            };
            let (push, pull) = (-settings.repulsion * push, settings.attraction * pull);
            negative.iter_mut().for_each(|weight| *weight *= push);
            positive.iter_mut().for_each(|weight| *weight *= pull);
        }
    }
}

/// Kernels become coefficients -2 xi'(d^2) of y - x, averaged over each side (paper C.2), in units of the distances.
fn kernel_gradient(
    weights: &mut [f32],
    distances: &[f32],
    problem: &Problem,
    temperature: f32,
    settings: &DriftSettings,
) {
    let Columns { own, negatives, targets } = problem.columns();
    let others = own - usize::from(settings.mask_self_negatives && own > 0);
    let pushing = others as f32 + problem.weight() * (negatives - own) as f32;
    let (push, pull) = (inverse(pushing), inverse((targets - negatives) as f32));
    let rows = weights.chunks_exact_mut(targets).zip(distances.chunks_exact(targets));
    for (i, (row, distances)) in rows.enumerate() {
        for (weight, distance) in row.iter_mut().zip(distances) {
            *weight /= match settings.kernel {
                Kernel::Exponential => temperature * distance,
                Kernel::Gaussian => temperature * temperature,
            };
        }
        if i < own {
            row[i] = 0.0;
        }
        let (negative, positive) = row.split_at_mut(negatives);
        negative.iter_mut().for_each(|weight| *weight *= -settings.repulsion * push);
        positive.iter_mut().for_each(|weight| *weight *= settings.attraction * pull);
    }
}
