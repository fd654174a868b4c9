//! Affinities of generated samples to their targets (method step 5, first half; paper Algorithm 2).

use std::ops::Range;

use drifting_models::ops::simd::{dispatch_call, exp, max, sum};

use super::batch::Columns;
use super::numeric::inverse;
use super::problem::Problem;
use super::settings::{Coupling, DriftSettings, Kernel, WeightPlacement};
use super::sinkhorn;

/// A `[Ng, targets]` at `temperature` from the scaled distances of `problem`.
pub(super) fn affinities(problem: &Problem, distances: &[f32], temperature: f32, settings: &DriftSettings) -> Vec<f32> {
    dispatch_call(weighted, (problem, distances, temperature, settings))
}

#[inline(always)]
fn weighted((problem, distances, temperature, settings): (&Problem, &[f32], f32, &DriftSettings)) -> Vec<f32> {
    let columns = problem.columns();
    let mut logits = kernel_logits(distances, temperature, settings.kernel);
    if settings.weight_placement == WeightPlacement::Logits {
        let log_weight = problem.weight().ln();
        unconditional(&mut logits, columns, |logit| *logit += log_weight);
    }
    let mut affinities = normalized(logits, columns, settings);
    // What does not exist has no affinity, not even the floor's.
    let factor = match settings.weight_placement {
        WeightPlacement::Logits if problem.weight() > 0.0 => return affinities,
        WeightPlacement::Logits => 0.0,
        WeightPlacement::AfterSoftmax => problem.weight(),
    };
    unconditional(&mut affinities, columns, |affinity| *affinity *= factor);
    affinities
}

/// ln k.
#[inline(always)]
fn kernel_logits(distances: &[f32], temperature: f32, kernel: Kernel) -> Vec<f32> {
    match kernel {
        Kernel::Exponential => distances.iter().map(|d| -d / temperature).collect(),
        Kernel::Gaussian => distances.iter().map(|d| d / temperature).map(|d| -0.5 * d * d).collect(),
    }
}

/// The kernel with its normalisations, not below the floor.
#[inline(always)]
fn normalized(logits: Vec<f32>, columns: Columns, settings: &DriftSettings) -> Vec<f32> {
    let DriftSettings { floor, sinkhorn_iterations, .. } = *settings;
    let sides = sides(columns, settings.coupling);
    let mut kernel = match (settings.normalize_over_y, settings.normalize_over_x) {
        (true, true) if sinkhorn_iterations > 0 => {
            sinkhorn::balance(logits, columns.targets, &sides, sinkhorn_iterations)
        }
        (true, true) => {
            let mut rows = logits.clone();
            softmax_over_targets(&mut rows, columns.targets, &sides);
            let mut kernel = logits;
            softmax_over_samples(&mut kernel, columns.targets);
            kernel.iter_mut().zip(rows).for_each(|(column, row)| *column = (row * *column).max(floor).sqrt());
            return kernel;
        }
        (over_y, over_x) => {
            let mut kernel = logits;
            match (over_y, over_x) {
                (true, _) => softmax_over_targets(&mut kernel, columns.targets, &sides),
                (_, true) => softmax_over_samples(&mut kernel, columns.targets),
                _ => kernel.iter_mut().for_each(|logit| *logit = exp(*logit)),
            }
            kernel
        }
    };
    if settings.coupling != Coupling::Mmd {
        let least = floor.sqrt();
        kernel.iter_mut().for_each(|affinity| *affinity = affinity.max(least));
    }
    kernel
}

/// The targets that one normalisation spans: all of them, or negatives and positives apart.
fn sides(Columns { negatives, targets, .. }: Columns, coupling: Coupling) -> Vec<Range<usize>> {
    match coupling {
        Coupling::Split => vec![0..negatives, negatives..targets],
        Coupling::Joint | Coupling::Separate | Coupling::Mmd => std::iter::once(0..targets).collect(),
    }
}

/// For each x, the weights over the targets of each side sum to 1.
#[inline(always)]
fn softmax_over_targets(logits: &mut [f32], targets: usize, sides: &[Range<usize>]) {
    for row in logits.chunks_exact_mut(targets) {
        for side in sides {
            let side = &mut row[side.clone()];
            let largest = finite_or_zero(max(side));
            side.iter_mut().for_each(|logit| *logit = exp(*logit - largest));
            let share = inverse(sum(side));
            side.iter_mut().for_each(|weight| *weight *= share);
        }
    }
}

/// For each target, the weights over the x sum to 1.
#[inline(always)]
fn softmax_over_samples(logits: &mut [f32], targets: usize) {
    let mut largest = vec![f32::NEG_INFINITY; targets];
    for row in logits.chunks_exact(targets) {
        largest.iter_mut().zip(row).for_each(|(largest, &logit)| *largest = logit.max(*largest));
    }
    largest.iter_mut().for_each(|largest| *largest = finite_or_zero(*largest));
    let mut totals = vec![0.0; targets];
    for row in logits.chunks_exact_mut(targets) {
        for ((logit, largest), total) in row.iter_mut().zip(&largest).zip(&mut totals) {
            *logit = exp(*logit - largest);
            *total += *logit;
        }
    }
    totals.iter_mut().for_each(|total| *total = inverse(*total));
    for row in logits.chunks_exact_mut(targets) {
        row.iter_mut().zip(&totals).for_each(|(weight, share)| *weight *= share);
    }
}

/// A target of weight 0 has logits of -inf, from which nothing can be taken.
pub(super) fn finite_or_zero(largest: f32) -> f32 {
    if largest.is_finite() { largest } else { 0.0 }
}

fn unconditional(matrix: &mut [f32], Columns { own, negatives, targets }: Columns, change: impl Fn(&mut f32)) {
    matrix.chunks_exact_mut(targets).for_each(|row| row[own..negatives].iter_mut().for_each(&change));
}
