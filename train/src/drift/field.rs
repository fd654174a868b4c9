//! The drift F of a batch: distances, scales, V for every temperature, their normalised sum (method steps 1-5).

use rayon::prelude::*;

use super::DriftError;
use super::batch::{Features, KeyBatch, KeyShape};
use super::force;
use super::numeric::sum_of_squares;
use super::problem::Problem;
use super::scale::{Units, drift_factor, mean_squares, units};
use super::settings::{DriftSettings, TemperatureAggregation};

/// What repels the samples of [`field`].
#[derive(Clone, Copy, Debug)]
pub enum Negatives<'a> {
    /// The samples themselves.
    Own,
    /// Other points `[M, D]`.
    Others(&'a [f32]),
}

/// The drift of samples `x` `[N, D]` towards `positives` `[P, D]` and away from `negatives` (paper Algorithm 2).
///
/// `[N, D]`, in units of the features as the settings scale them; with [`DriftSettings::plain`] those of `x`.
///
/// # Errors
/// Lengths that are no multiple of `dim`, empty sets, settings that contradict each other, numbers that are not finite.
pub fn field(
    x: &[f32],
    positives: &[f32],
    negatives: Negatives<'_>,
    dim: usize,
    settings: &DriftSettings,
) -> Result<Vec<f32>, DriftError> {
    let (unconditional, own): (&[f32], _) = match negatives {
        Negatives::Own => (&[], true),
        Negatives::Others(points) => (points, false),
    };
    let points = |values: &[f32]| values.len() / dim.max(1);
    let shape = KeyShape {
        groups: 1,
        locations: 1,
        generated: points(x),
        positives: points(positives),
        unconditional: points(unconditional),
        dim,
    };
    let features = Features { generated: x, positives, unconditional, weight: &[1.0] };
    let batch = KeyBatch::with_negatives("field", shape, features, own)?;
    Ok(Drift::of(&batch, settings)?.force)
}

/// The normalised drift of a batch and what it was normalised by.
#[derive(Debug)]
pub(super) struct Drift {
    /// F `[groups * Ng, T, D]`.
    pub(super) force: Vec<f32>,
    /// Sum of the squares that the reported loss averages.
    pub(super) square: f64,
    /// Units of each group.
    pub(super) units: Vec<Units>,
    /// m of each temperature, of each group.
    pub(super) mean_squares: Vec<Vec<f64>>,
}

impl Drift {
    pub(super) fn of(batch: &KeyBatch<'_>, settings: &DriftSettings) -> Result<Self, DriftError> {
        settings.validate()?;
        let shape = batch.shape();
        // Distances are computed twice: kept for all problems, they would be the largest thing in memory.
        let sums = each_problem(batch, |_, problem| problem.weighted_distance_sum())?;
        let units = units(batch, &sums, settings);
        let drifts =
            each_problem(batch, |index, problem| force::drifts(problem, units[index / shape.locations], settings))?;
        let temperatures = 0..settings.temperatures.len();
        let vectors = shape.generated * shape.dim;
        let mean_squares: Vec<_> = temperatures
            .map(|temperature| {
                let square = |drifts: &Vec<f32>| sum_of_squares(&drifts[temperature * vectors..][..vectors]);
                let sums: Vec<_> = drifts.par_iter().map(square).collect();
                mean_squares(shape, &sums, settings.scale_scope)
            })
            .collect();
        let factors: Vec<Vec<_>> = mean_squares
            .iter()
            .map(|groups| groups.iter().map(|&mean_square| drift_factor(mean_square, settings)).collect())
            .collect();
        let (force, squared_sum) = add_up(shape, &drifts, &factors);
        let square = match settings.temperature_aggregation {
            TemperatureAggregation::SumDrifts => squared_sum,
            TemperatureAggregation::SumLosses => {
                let squares = mean_squares.iter().flatten().zip(factors.iter().flatten());
                let per_group = force.len() / shape.groups;
                squares.map(|(mean_square, factor)| mean_square * factor * factor).sum::<f64>() * per_group as f64
            }
        };
        Ok(Self { force, square, units, mean_squares })
    }
}

/// `compute` for every problem, in their order; the error is that of the first problem that has one.
fn each_problem<T: Send>(
    batch: &KeyBatch<'_>,
    compute: impl Fn(usize, &Problem) -> T + Sync,
) -> Result<Vec<T>, DriftError> {
    let problems = (0..batch.shape().problems()).into_par_iter();
    let results: Vec<_> =
        problems.map(|index| Problem::new(batch, index).map(|problem| compute(index, &problem))).collect();
    results.into_iter().collect()
}

/// F = sum of V times `factors[temperature][group]`, image by image, and the sum of its squares.
fn add_up(shape: KeyShape, drifts: &[Vec<f32>], factors: &[Vec<f64>]) -> (Vec<f32>, f64) {
    let KeyShape { groups, locations, generated, dim, .. } = shape;
    let mut force = vec![0.0; groups * generated * locations * dim];
    let images = force.par_chunks_exact_mut(locations * dim).enumerate();
    let squares: Vec<_> = images
        .map(|(image, force)| {
            let (group, sample) = (image / generated, image % generated);
            for (vector, drifts) in force.chunks_exact_mut(dim).zip(&drifts[group * locations..]) {
                for (temperature, factors) in factors.iter().enumerate() {
                    let drift = &drifts[(temperature * generated + sample) * dim..][..dim];
                    let factor = factors[group] as f32;
                    vector.iter_mut().zip(drift).for_each(|(force, drift)| *force += factor * drift);
                }
            }
            sum_of_squares(force)
        })
        .collect();
    (force, squares.iter().sum())
}
