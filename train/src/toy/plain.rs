//! Paper Algorithm 2 for thousands of points of the plane.
//!
//! The objective's own path keeps several matrices over all pairs of a problem, which suits problems that fit in the
//! cache. One problem of 2,048 x 4,096 pairs does not: here its rows are worked in blocks, and what a block needs of the
//! pairs is computed again in each of three passes. The result is that of [`drift_key`](crate::drift::drift_key), which
//! the test holds it against, and the same whatever the number of threads.

use std::ops::Range;

use drifting_models::ops::simd::{self, Kernel, dispatch_kernel, dot, exp, sum};
use rayon::prelude::*;

use super::DIM;
use crate::drift::DriftSettings;

/// Rows of a block.
const ROWS: usize = 64;
/// Least squared distance, as in the objective.
const MIN_SQUARED_DISTANCE: f32 = 1e-8;

/// The drift V `[N, 2]` of points `[N, 2]` towards `data` `[P, 2]` and away from each other; `None` for settings other
/// than those of [`DriftSettings::plain`] with any temperature, mask, attraction and repulsion, and for numbers that are
/// not finite.
pub(super) fn drift(points: &[f32], data: &[f32], settings: &DriftSettings) -> Option<Vec<f32>> {
    let &[temperature] = settings.temperatures.as_slice() else { return None };
    let DriftSettings { mask, attraction, repulsion, .. } = *settings;
    let same = DriftSettings {
        mask,
        attraction,
        repulsion,
        // These four say nothing about a single problem of one temperature.
        scale_scope: settings.scale_scope,
        reduction: settings.reduction,
        weight_placement: settings.weight_placement,
        temperature_aggregation: settings.temperature_aggregation,
        ..DriftSettings::plain(temperature)
    };
    let finite = points.iter().chain(data).all(|value| value.is_finite());
    if same != *settings || !finite || points.is_empty() || data.is_empty() {
        return None;
    }
    let plane = Plane::new(points, data, 1.0 / temperature, mask);
    let (rows, columns) = plane.normalisers();
    let forces = plane.blocks().into_par_iter().map(|block| {
        dispatch_kernel(Forces {
            plane: &plane,
            block,
            rows: &rows,
            columns: &columns,
            factors: [attraction, repulsion],
        })
    });
    Some(forces.collect::<Vec<_>>().concat())
}

/// Targets in the order generated, data; the generated ones are the rows.
struct Plane {
    x: Vec<f32>,
    y: Vec<f32>,
    own: usize,
    inverse_temperature: f32,
    mask: f32,
}

/// Largest logit and the root of 1 / (sum of exp(logit - largest)), of rows or of columns.
struct Normaliser {
    largest: Vec<f32>,
    root: Vec<f32>,
}

impl Plane {
    fn new(points: &[f32], data: &[f32], inverse_temperature: f32, mask: f32) -> Self {
        let axis = |axis: usize| points.iter().chain(data).skip(axis).step_by(DIM).copied().collect();
        Self { x: axis(0), y: axis(1), own: points.len() / DIM, inverse_temperature, mask }
    }

    fn blocks(&self) -> Vec<Range<usize>> {
        (0..self.own).step_by(ROWS).map(|start| start..(start + ROWS).min(self.own)).collect()
    }

    /// -d / temperature of one row.
    #[inline(always)]
    fn logits(&self, row: usize, logits: &mut [f32]) {
        let (x, y) = (self.x[row], self.y[row]);
        for ((logit, target_x), target_y) in logits.iter_mut().zip(&self.x).zip(&self.y) {
            let (across, up) = (target_x - x, target_y - y);
            *logit = -self.inverse_temperature * (across * across + up * up).max(MIN_SQUARED_DISTANCE).sqrt();
        }
        logits[row] -= self.inverse_temperature * self.mask;
    }

    /// Of the rows and of the columns; the numbers of a column are added block by block.
    fn normalisers(&self) -> (Normaliser, Normaliser) {
        let blocks = self.blocks().into_par_iter();
        let parts: Vec<_> = blocks.map(|block| dispatch_kernel(Largest { plane: self, block })).collect();
        let mut largest = vec![f32::NEG_INFINITY; self.x.len()];
        let mut rows = Normaliser { largest: Vec::new(), root: Vec::new() };
        for (of_rows, roots, of_columns) in parts {
            rows.largest.extend(of_rows);
            rows.root.extend(roots);
            largest.iter_mut().zip(of_columns).for_each(|(largest, other)| *largest = largest.max(other));
        }
        let blocks = self.blocks().into_par_iter();
        let parts: Vec<_> =
            blocks.map(|block| dispatch_kernel(ColumnSums { plane: self, block, largest: &largest })).collect();
        let mut root = vec![0.0; self.x.len()];
        for sums in parts {
            root.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        root.iter_mut().for_each(|total| *total = 1.0 / total.sqrt());
        (rows, Normaliser { largest, root })
    }
}

/// First pass: largest logits and roots of the rows, largest logits of the columns within the block.
struct Largest<'a> {
    plane: &'a Plane,
    block: Range<usize>,
}

impl Kernel for Largest<'_> {
    type Output = (Vec<f32>, Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run(self) -> Self::Output {
        let mut logits = vec![0.0; self.plane.x.len()];
        let mut columns = vec![f32::NEG_INFINITY; logits.len()];
        let (mut rows, mut roots) = (Vec::with_capacity(ROWS), Vec::with_capacity(ROWS));
        for row in self.block {
            self.plane.logits(row, &mut logits);
            for (largest, &logit) in columns.iter_mut().zip(&logits) {
                *largest = if logit > *largest { logit } else { *largest };
            }
            let largest = simd::max(&logits);
            logits.iter_mut().for_each(|logit| *logit = exp(*logit - largest));
            rows.push(largest);
            roots.push(1.0 / sum(&logits).sqrt());
        }
        (rows, roots, columns)
    }
}

/// Second pass: sums of exp(logit - largest) of the columns within the block.
struct ColumnSums<'a> {
    plane: &'a Plane,
    block: Range<usize>,
    largest: &'a [f32],
}

impl Kernel for ColumnSums<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let mut logits = vec![0.0; self.plane.x.len()];
        let mut sums = vec![0.0; logits.len()];
        for row in self.block {
            self.plane.logits(row, &mut logits);
            for ((sum, logit), largest) in sums.iter_mut().zip(&logits).zip(self.largest) {
                *sum += exp(logit - largest);
            }
        }
        sums
    }
}

/// Third pass: affinities, the root of the product of both softmaxes, and the drift.
struct Forces<'a> {
    plane: &'a Plane,
    block: Range<usize>,
    rows: &'a Normaliser,
    columns: &'a Normaliser,
    /// Attraction and repulsion.
    factors: [f32; 2],
}

impl Kernel for Forces<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let Self { plane, block, rows, columns, factors } = self;
        let (x, y, own) = (&plane.x[..], &plane.y[..], plane.own);
        let mut affinities = vec![0.0; x.len()];
        let mut forces = Vec::with_capacity(DIM * ROWS);
        for row in block {
            plane.logits(row, &mut affinities);
            let (largest, root) = (rows.largest[row], rows.root[row]);
            for ((value, of_column), column_root) in affinities.iter_mut().zip(&columns.largest).zip(&columns.root) {
                *value = exp(*value - 0.5 * (largest + of_column)) * (root * column_root);
            }
            let (negative, positive) = affinities.split_at(own);
            let (push, pull) = (sum(negative), sum(positive));
            let along = |target: &[f32]| {
                let to_data = dot(positive, &target[own..]) - pull * target[row];
                let to_others = dot(negative, &target[..own]) - push * target[row];
                factors[0] * push * to_data - factors[1] * pull * to_others
            };
            forces.extend([along(x), along(y)]);
        }
        forces
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::Stream;

    use super::*;
    use crate::drift::{Negatives, field};

    fn cloud(name: &str, count: usize, offset: f32) -> Vec<f32> {
        Stream::new(3, name, 0).normals(DIM * count).into_iter().map(|value| 0.5 * value + offset).collect()
    }

    #[test]
    fn blocks_give_the_field_of_the_objective() {
        for (temperature, offset, attraction, repulsion) in
            [(0.05, 0.3, 1.0, 1.0), (0.5, 3.0, 1.0, 1.0), (0.05, 0.0, 2.0, 1.0), (0.2, 0.3, 1.0, 0.0)]
        {
            let settings = DriftSettings { attraction, repulsion, ..DriftSettings::plain(temperature) };
            let (points, data) = (cloud("points", 150, 0.0), cloud("data", 200, offset));
            let found = drift(&points, &data, &settings).unwrap();
            let expected = field(&points, &data, Negatives::Own, DIM, &settings).unwrap();
            let size = expected.iter().fold(0f32, |size, value| size.max(value.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 2e-5 * size, "{temperature} {offset}: {found} {expected}");
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (points, data) = (cloud("points", 300, 0.0), cloud("data", 100, 0.2));
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| drift(&points, &data, &DriftSettings::plain(0.1)).unwrap())
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn other_settings_and_broken_numbers_are_left_to_the_objective() {
        let (points, data) = (cloud("points", 3, 0.0), cloud("data", 3, 0.2));
        let plain = DriftSettings::plain(0.1);
        for settings in [
            DriftSettings::default(),
            DriftSettings { floor: 1e-6, ..plain.clone() },
            DriftSettings { normalize_drift: true, ..plain.clone() },
            DriftSettings { mask_self_negatives: false, ..plain.clone() },
            DriftSettings { temperatures: vec![0.1, 0.2], ..plain.clone() },
        ] {
            assert_eq!(drift(&points, &data, &settings), None);
        }
        assert_eq!(drift(&points, &[f32::NAN, 0.0], &plain), None);
        assert!(drift(&points, &data, &plain).is_some());
    }
}
