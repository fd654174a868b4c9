//! Affinities of generated samples to their targets (method step 5, first half; paper Algorithm 2).

use std::ops::Range;

use drifting_models::ops::simd::{Kernel, exp, max};

use super::batch::Columns;
use super::numeric::{inverse, sum};
use super::settings::{self, Coupling, DriftSettings, WeightPlacement};
use super::sinkhorn;

/// Affinities A `[Ng, targets]`, to be computed by [`dispatch_kernel`](drifting_models::ops::simd::dispatch_kernel).
pub(super) struct Affinities<'a> {
    /// Order of the targets.
    pub(super) columns: Columns,
    /// Guidance weight.
    pub(super) weight: f32,
    /// Scaled distances, masked.
    pub(super) distances: &'a [f32],
    /// Temperature tau.
    pub(super) temperature: f32,
    /// Switches.
    pub(super) settings: &'a DriftSettings,
}

impl Kernel for Affinities<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let Self { columns, weight, distances, temperature, settings } = self;
        let mut logits = kernel_logits(distances, temperature, settings.kernel);
        if settings.weight_placement == WeightPlacement::Logits {
            let log_weight = weight.ln();
            unconditional(&mut logits, columns, |logit| *logit += log_weight);
        }
        let mut affinities = normalized(logits, columns, settings);
        // What does not exist has no affinity, not even the floor's.
        let factor = match settings.weight_placement {
            WeightPlacement::Logits if weight > 0.0 => 1.0,
            WeightPlacement::Logits => 0.0,
            WeightPlacement::AfterSoftmax => weight,
        };
        unconditional(&mut affinities, columns, |affinity| *affinity *= factor);
        affinities
    }
}

/// ln k.
#[inline(always)]
fn kernel_logits(distances: &[f32], temperature: f32, kernel: settings::Kernel) -> Vec<f32> {
    match kernel {
        settings::Kernel::Exponential => distances.iter().map(|d| -d / temperature).collect(),
        settings::Kernel::Gaussian => distances.iter().map(|d| d / temperature).map(|d| -0.5 * d * d).collect(),
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
#[inline(always)]
pub(super) fn finite_or_zero(largest: f32) -> f32 {
    if largest.is_finite() { largest } else { 0.0 }
}

#[inline(always)]
fn unconditional(matrix: &mut [f32], Columns { own, negatives, targets }: Columns, change: impl Fn(&mut f32)) {
    matrix.chunks_exact_mut(targets).for_each(|row| row[own..negatives].iter_mut().for_each(&change));
}

#[cfg(test)]
mod tests {
    use drifting_models::ops::simd::dispatch_kernel;

    use super::super::points::Gathered;
    use super::super::problem::Ruler;
    use super::super::{Features, KeyBatch, KeyShape};
    use super::*;

    /// Of 8 generated, 4 unconditional, 30 positive samples in 3 dimensions.
    fn affinities(weight: f32, settings: &DriftSettings) -> Vec<f32> {
        let values = |name, count: usize| drifting_spec::Stream::new(1, name, 0).normals(3 * count);
        let shape = KeyShape { groups: 1, locations: 1, generated: 8, positives: 30, unconditional: 4, dim: 3 };
        let (generated, positives, unconditional) = (values("g", 8), values("p", 30), values("u", 4));
        let features =
            Features { generated: &generated, positives: &positives, unconditional: &unconditional, weight: &[weight] };
        let batch = KeyBatch::new("test", shape, features).unwrap();
        let (mut gathered, mut rows) = (Gathered::default(), vec![0.0; 8 * 48]);
        gathered.gather(&batch, 0, 1);
        let (points, mut ruler) = (gathered.centred(&batch, 0, settings.products), Ruler::default());
        ruler.check(points, &batch, 0).unwrap();
        ruler.measure(points, weight, &mut rows);
        let mut distances: Vec<f32> = rows.chunks_exact(48).flat_map(|row| &row[..42]).copied().collect();
        distances.iter_mut().step_by(43).take(8).for_each(|itself| *itself += settings.mask);
        let columns = batch.columns();
        dispatch_kernel(Affinities { columns, weight, distances: &distances, temperature: 0.5, settings })
    }

    #[test]
    fn one_softmax_sums_to_one_over_what_it_spans() {
        let over_y = DriftSettings { normalize_over_x: false, floor: 0.0, ..DriftSettings::default() };
        for row in affinities(1.0, &over_y).chunks_exact(42) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        let split = DriftSettings { coupling: Coupling::Split, ..over_y.clone() };
        for row in affinities(1.0, &split).chunks_exact(42) {
            assert!((row[..12].iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!((row[12..].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        let over_x = DriftSettings { normalize_over_y: false, normalize_over_x: true, ..over_y };
        let columns = affinities(1.0, &over_x);
        for y in 0..42 {
            assert!((columns.iter().skip(y).step_by(42).sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn no_affinity_is_below_the_root_of_the_floor_but_those_of_weight_0() {
        let settings = DriftSettings { floor: 1e-4, ..DriftSettings::default() };
        for placement in [WeightPlacement::AfterSoftmax, WeightPlacement::Logits] {
            let settings = DriftSettings { weight_placement: placement, ..settings.clone() };
            for (i, row) in affinities(0.0, &settings).chunks_exact(42).enumerate() {
                assert_eq!((row[i], &row[8..12]), (0.01, [0.0; 4].as_slice()));
                assert!(row[..8].iter().chain(&row[12..]).all(|&affinity| affinity >= 0.01));
            }
        }
    }

    /// Beside an unweighted target of the same row, w in the logits is a factor of sqrt(w); alone a little less, since it
    /// grows the denominators too (method section 2 row 2).
    #[test]
    fn a_weight_in_the_logits_acts_like_its_root() {
        let settings = DriftSettings { floor: 0.0, ..DriftSettings::default() };
        let logits = DriftSettings { weight_placement: WeightPlacement::Logits, ..settings.clone() };
        let one = affinities(1.0, &settings);
        for (weight, root) in [(4.0, 2.0), (16.0, 4.0)] {
            let (after, within) = (affinities(weight, &settings), affinities(weight, &logits));
            let rows = one.chunks_exact(42).zip(after.chunks_exact(42)).zip(within.chunks_exact(42));
            for ((one, after), within) in rows {
                for u in 8..12 {
                    assert!((after[u] / one[u] - weight).abs() < 1e-4);
                    let (factor, beside) = (within[u] / one[u], within[20] / one[20]);
                    assert!((factor / beside - root).abs() < 1e-4 && factor < root, "{factor} {beside}");
                }
            }
        }
    }
}
