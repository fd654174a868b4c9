//! From distances to the coefficients of the targets in a drift V, and from these to V (method step 5; paper Algorithm 2,
//! eq. 8-11).

use drifting_models::ops::matmul::{Matrix, Threads, matmul};
use drifting_models::ops::simd::{self, dispatch_kernel};

use super::affinity::{Affinities, BothAxes, Farther, Roots, is_official};
use super::batch::Columns;
use super::numeric::{inverse, sum};
use super::problem::Points;
use super::settings::{Coupling, DriftSettings, Kernel};

/// The coefficients c of a problem's targets y for every temperature, in memory that is used again. V = sum of c (y - x).
///
/// Where the generated samples are targets, what they have in all of x is in the coefficient of x itself, so that V is
/// the sum of c y and each row sums to 0.
#[derive(Debug, Default)]
pub(super) struct Coefficients {
    /// `[temperatures, Ng, targets]`.
    values: Vec<f32>,
    /// Distances in the kernel's unit, masked.
    scaled: Vec<f32>,
    farther: Farther,
    roots: Roots,
}

impl Coefficients {
    /// Computes them from `distances` `[Ng, targets]`, `unit` of which is 1 for the kernel, and the weight of the
    /// unconditional targets.
    pub(super) fn find(
        &mut self,
        distances: &[f32],
        (unit, weight): (f32, f32),
        columns: Columns,
        settings: &DriftSettings,
    ) {
        self.values.resize(settings.temperatures.len() * distances.len(), 0.0);
        self.scaled.resize(distances.len(), 0.0);
        let mask = if settings.mask_self_negatives { settings.mask } else { 0.0 };
        let official = is_official(settings);
        let (scaled, farther) = (&mut self.scaled, official.then_some(&mut self.farther));
        dispatch_kernel(Scale { distances, per_unit: 1.0 / unit, mask, columns, scaled, farther });
        let distances = &self.scaled[..];
        for (&temperature, weights) in settings.temperatures.iter().zip(self.values.chunks_exact_mut(distances.len())) {
            if official {
                dispatch_kernel(BothAxes {
                    columns,
                    weight,
                    farther: &self.farther,
                    temperature,
                    floor: settings.floor,
                    roots: &mut self.roots,
                    affinities: weights,
                });
            } else {
                let affinities = Affinities { columns, weight, distances, temperature, settings };
                weights.copy_from_slice(&dispatch_kernel(affinities));
            }
            if settings.coupling == Coupling::Mmd {
                kernel_gradient(weights, distances, (columns, weight), temperature, settings);
            } else {
                dispatch_kernel(Couple { weights, columns, settings });
            }
            dispatch_kernel(Balance { weights, columns });
        }
    }

    /// Takes those that were found before, `[temperatures, Ng, targets]`.
    pub(super) fn load(&mut self, values: &[f32], temperatures: usize) {
        self.values.clear();
        self.values.extend_from_slice(values);
        self.scaled.resize(values.len() / temperatures, 0.0);
    }

    /// `[temperatures, Ng, targets]`.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Those of the sum over temperatures, each with its factor: `[Ng, targets]`, in place of the first one's.
    pub(super) fn sum_up(&mut self, factors: &[f32]) -> &[f32] {
        let (first, rest) = self.values.split_at_mut(self.scaled.len());
        dispatch_kernel(SumUp { sum: first, rest, factors });
        first
    }
}

/// V `[rows, D]` from `coefficients` `[rows, targets]`, whose rows are those of the samples again and again.
pub(super) fn drifts(coefficients: &[f32], points: &Points, dim: usize, drifts: &mut [f32]) {
    let (rows, targets) = (drifts.len() / dim, points.targets().len() / dim);
    let weights = Matrix::new(coefficients, rows, targets);
    matmul(drifts, weights, Matrix::new(points.targets(), targets, dim), 1.0, Threads::One);
    if !points.samples_are_targets() {
        dispatch_kernel(Relative { drifts, coefficients, samples: points.samples(), dim });
    }
}

/// Distances in the unit of the kernel, with `mask` more between a sample and itself.
struct Scale<'a> {
    distances: &'a [f32],
    per_unit: f32,
    mask: f32,
    columns: Columns,
    scaled: &'a mut [f32],
    /// To be found, if it is needed.
    farther: Option<&'a mut Farther>,
}

impl simd::Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { distances, per_unit, mask, columns: Columns { own, targets, .. }, scaled, farther } = self;
        scaled.iter_mut().zip(distances).for_each(|(scaled, distance)| *scaled = distance * per_unit);
        // No generated sample is a target of its own unless they all are.
        for (i, row) in scaled.chunks_exact_mut(targets).take(own).enumerate() {
            row[i] += mask;
        }
        if let Some(farther) = farther {
            farther.find(scaled, targets);
        }
    }
}

/// From sums of c y to those of c (y - x). The sum of c is 0 up to rounding, unless attraction and repulsion differ.
struct Relative<'a> {
    drifts: &'a mut [f32],
    coefficients: &'a [f32],
    samples: &'a [f32],
    dim: usize,
}

impl simd::Kernel for Relative<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { drifts, coefficients, samples, dim } = self;
        let targets = coefficients.len() / (drifts.len() / dim);
        let rows = drifts.chunks_exact_mut(dim).zip(coefficients.chunks_exact(targets));
        for ((drift, coefficients), sample) in rows.zip(samples.chunks_exact(dim).cycle()) {
            let total = sum(coefficients);
            drift.iter_mut().zip(sample).for_each(|(drift, x)| *drift -= total * x);
        }
    }
}

/// Where x is a target, takes from its coefficient the sum of all.
struct Balance<'a> {
    weights: &'a mut [f32],
    columns: Columns,
}

impl simd::Kernel for Balance<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Columns { own, targets, .. } = self.columns;
        for (i, row) in self.weights.chunks_exact_mut(targets).take(own).enumerate() {
            row[i] -= sum(row);
        }
    }
}

/// The sum of all temperatures, each times its factor.
struct SumUp<'a> {
    sum: &'a mut [f32],
    rest: &'a [f32],
    factors: &'a [f32],
}

impl simd::Kernel for SumUp<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { sum, rest, factors } = self;
        let mut factors = factors.iter();
        if let Some(factor) = factors.next() {
            sum.iter_mut().for_each(|sum| *sum *= factor);
        }
        for (weights, factor) in rest.chunks_exact(sum.len()).zip(factors) {
            sum.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += factor * weight);
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
    (columns, weight): (Columns, f32),
    temperature: f32,
    settings: &DriftSettings,
) {
    let Columns { own, negatives, targets } = columns;
    let others = own - usize::from(settings.mask_self_negatives && own > 0);
    let pushing = others as f32 + weight * (negatives - own) as f32;
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
