//! From distances to the coefficients of the targets in a drift V, and from these to V (method step 5; paper Algorithm 2,
//! eq. 8-11).

use drifting_models::ops::matmul::{Matrix, Threads, matmul};
use drifting_models::ops::rounded_rows::RoundedSums;
use drifting_models::ops::simd::{self, dispatch_kernel};

use super::affinity::Affinities;
use super::batch::Columns;
use super::numeric::{inverse, sum};
use super::official::{Official, is_official};
use super::points::{Points, Rounded};
use super::settings::{Coupling, DriftSettings, Kernel};

/// Finds the coefficients c of a problem's targets y for every temperature, in memory that is used again. V = sum of c (y - x).
///
/// Where the generated samples are targets, what they have in all of x is in the coefficient of x itself, so that V is
/// the sum of c y and each row sums to 0.
#[derive(Debug, Default)]
pub(super) struct Coefficients {
    official: Official,
    /// Distances in the kernel's unit, masked: `[Ng, targets]`.
    scaled: Vec<f32>,
}

impl Coefficients {
    /// The coefficients `[temperatures, Ng, stride]` from `distances` `[Ng, stride]`, of which `unit` is 1 for the kernel, and
    /// the weight of the unconditional targets. What fills up a row is 0.
    pub(super) fn find(
        &mut self,
        distances: &[f32],
        (unit, weight): (f32, f32),
        columns: Columns,
        settings: &DriftSettings,
        coefficients: &mut [f32],
    ) {
        if is_official(settings) {
            return self.official.find(distances, (unit, weight), columns, settings, coefficients);
        }
        self.scale(distances, unit, columns, settings);
        let distances = &self.scaled[..];
        let rows = distances.len() / columns.targets * columns.stride();
        for (&temperature, coefficients) in settings.temperatures.iter().zip(coefficients.chunks_exact_mut(rows)) {
            let affinities = Affinities { columns, weight, distances, temperature, settings };
            let mut weights = dispatch_kernel(affinities);
            if settings.coupling == Coupling::Mmd {
                kernel_gradient(&mut weights, distances, (columns, weight), temperature, settings);
            } else {
                dispatch_kernel(Couple { weights: &mut weights, columns, settings });
            }
            dispatch_kernel(Balance { weights: &mut weights, columns });
            let rows = weights.chunks_exact(columns.targets);
            for (to, row) in coefficients.chunks_exact_mut(columns.stride()).zip(rows) {
                to[..columns.targets].copy_from_slice(row);
                to[columns.targets..].fill(0.0);
            }
        }
    }

    /// Distances in the unit of the kernel, with a mask between a sample and itself.
    fn scale(&mut self, distances: &[f32], unit: f32, columns: Columns, settings: &DriftSettings) {
        let mask = if settings.mask_self_negatives { settings.mask } else { 0.0 };
        self.scaled.clear();
        for (i, row) in distances.chunks_exact(columns.stride()).enumerate() {
            let first = self.scaled.len();
            self.scaled.extend(row[..columns.targets].iter().map(|distance| distance * (1.0 / unit)));
            // No generated sample is a target of its own unless they all are.
            if i < columns.own {
                self.scaled[first + i] += mask;
            }
        }
    }
}

/// The sum of coefficients or drifts of all temperatures, each times its factor, into `sum`.
pub(super) fn sum_up(values: &[f32], factors: &[f32], sum: &mut [f32]) {
    dispatch_kernel(SumUp { sum, values, factors });
}

/// V `[rows, D]` from `coefficients` `[rows, stride]`, whose rows are those of the samples again and again.
pub(super) fn drifts(coefficients: &[f32], points: Points<'_>, memory: &mut RoundedSums, drifts: &mut [f32]) {
    let (dim, stride) = (points.dim(), points.columns().stride());
    if let Some(Rounded { mean, .. }) = points.rounded() {
        return memory.sum(points.targets(), mean, (coefficients, stride), |first, part| {
            let width = part.len() * stride / coefficients.len();
            for (drift, part) in drifts.chunks_exact_mut(dim).zip(part.chunks_exact(width)) {
                drift[first..][..width].copy_from_slice(part);
            }
        });
    }
    let weights = Matrix::strided(coefficients, coefficients.len() / stride, points.columns().targets, stride);
    let targets = Matrix::new(points.targets(), points.columns().targets, dim);
    matmul(drifts, weights.exact(), targets, 1.0, Threads::One);
    if !points.samples_are_targets() {
        dispatch_kernel(Relative { drifts, coefficients, samples: points.samples(), dim });
    }
}

/// As [`drifts`], which are not kept: `take` gets the first number of each vector that a part holds, and the part `[rows, numbers]`.
pub(super) fn each_part(
    coefficients: &[f32],
    points: Points<'_>,
    (memory, whole): (&mut RoundedSums, &mut [f32]),
    mut take: impl FnMut(usize, &[f32]),
) {
    if let Some(Rounded { mean, .. }) = points.rounded() {
        return memory.sum(points.targets(), mean, (coefficients, points.columns().stride()), take);
    }
    drifts(coefficients, points, memory, whole);
    take(0, whole);
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
        let stride = coefficients.len() / (drifts.len() / dim);
        let rows = drifts.chunks_exact_mut(dim).zip(coefficients.chunks_exact(stride));
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
    values: &'a [f32],
    factors: &'a [f32],
}

impl simd::Kernel for SumUp<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { sum, values, factors } = self;
        let mut temperatures = values.chunks_exact(sum.len()).zip(factors);
        if let Some((values, factor)) = temperatures.next() {
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum = factor * value);
        }
        for (values, factor) in temperatures {
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
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
            let (push, pull) = settings.factors(negative_mass, positive_mass);
            negative.iter_mut().for_each(|weight| *weight *= push);
            positive.iter_mut().for_each(|weight| *weight *= pull);
        }
    }
}

impl DriftSettings {
    /// What affinities to negatives and to positives are multiplied by, where those of a sample add up to these masses.
    #[inline(always)]
    pub(super) fn factors(&self, negative_mass: f32, positive_mass: f32) -> (f32, f32) {
        let (push, pull) = match self.coupling {
            Coupling::Joint => (positive_mass, negative_mass),
            _ => (inverse(negative_mass), inverse(positive_mass)),
        };
        (-self.repulsion * push, self.attraction * pull)
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
