//! From affinities to the drift V (method step 5, second half; paper Algorithm 2, eq. 8-11).

use drifting_models::ops::matmul::{Matrix, Threads, matmul};
use drifting_models::ops::simd::{dispatch_call, sum};

use super::affinity::affinities;
use super::batch::Columns;
use super::numeric::inverse;
use super::problem::Problem;
use super::scale::Units;
use super::settings::{Coupling, DriftSettings, Kernel};

/// V for every temperature, `[temperatures, Ng, D]`, of the features divided by `units.feature`.
pub(super) fn drifts(problem: &Problem, units: Units, settings: &DriftSettings) -> Vec<f32> {
    let (columns, dim) = (problem.columns(), problem.dim());
    let distances = problem.scaled_distances(units.distance, settings.mask_self_negatives.then_some(settings.mask));
    let mut coefficients = Vec::with_capacity(settings.temperatures.len() * distances.len());
    for &temperature in &settings.temperatures {
        let mut weights = affinities(problem, &distances, temperature, settings);
        match settings.coupling {
            Coupling::Mmd => kernel_gradient(&mut weights, &distances, problem, temperature, settings),
            Coupling::Joint | Coupling::Separate | Coupling::Split => {
                dispatch_call(couple, (weights.as_mut_slice(), columns, settings));
            }
        }
        coefficients.append(&mut weights);
    }
    let rows = coefficients.len() / columns.targets;
    let mut drifts = vec![0.0; rows * dim];
    let weights = Matrix::new(&coefficients, rows, columns.targets);
    matmul(&mut drifts, weights, Matrix::new(problem.targets(), columns.targets, dim), 1.0, Threads::One);
    dispatch_call(relative_to_samples, (drifts.as_mut_slice(), coefficients.as_slice(), problem, units));
    drifts
}

/// From sums of c y to those of c (y - x), in units of the features. The sum of c is 0 up to rounding, unless attraction
/// and repulsion differ.
#[inline(always)]
fn relative_to_samples((drifts, coefficients, problem, units): (&mut [f32], &[f32], &Problem, Units)) {
    let dim = problem.dim();
    let rows = drifts.chunks_exact_mut(dim).zip(coefficients.chunks_exact(problem.columns().targets));
    for ((drift, coefficients), sample) in rows.zip(problem.samples().chunks_exact(dim).cycle()) {
        let total = sum(coefficients);
        for (drift, x) in drift.iter_mut().zip(sample) {
            *drift = (*drift - total * x) / units.feature;
        }
    }
}

/// Affinities become coefficients of the targets: negative for negatives, positive for positives.
#[inline(always)]
fn couple((weights, columns, settings): (&mut [f32], Columns, &DriftSettings)) {
    let Columns { negatives, targets, .. } = columns;
    for row in weights.chunks_exact_mut(targets) {
        let (negative, positive) = row.split_at_mut(negatives);
        let (negative_mass, positive_mass) = (sum(negative), sum(positive));
        let (push, pull) = match settings.coupling {
            Coupling::Joint => (positive_mass, negative_mass),
            _ => (inverse(negative_mass), inverse(positive_mass)),
        };
        negative.iter_mut().for_each(|weight| *weight *= -settings.repulsion * push);
        positive.iter_mut().for_each(|weight| *weight *= settings.attraction * pull);
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
