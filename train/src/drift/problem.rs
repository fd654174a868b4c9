//! One class group at one location: its vectors and the distances between them (method step 1).

use drifting_models::ops::matmul::{Matrix, Threads, matmul};
use drifting_models::ops::simd::{Kernel, dispatch, dispatch_kernel};

use super::DriftError;
use super::batch::{Columns, KeyBatch};
use super::numeric::{squares, sum, sum_of_squares};
use super::settings::Distances;

/// Least squared distance, so that a sample's distance to itself is 1e-4.
const MIN_SQUARED_DISTANCE: f32 = 1e-8;
/// Largest squared norm of a vector about the centre; the square of a drift in f32 overflows not far above.
const MAX_SQUARED_NORM: f32 = 1e30;
/// Share of |x|^2 + |y|^2 below which their difference to 2 x.y has lost too many digits.
const CANCELLED: f32 = 1.0 / 64.0;

/// A generated sample meets every target of its problem and none of another.
#[derive(Debug)]
pub(super) struct Problem {
    /// Generated samples x, then the targets y that are not among them: `[rows, D]`, their mean taken away. Drifts do
    /// not depend on the mean, the precision of distances does.
    points: Vec<f32>,
    /// d `[Ng, targets]`.
    distances: Vec<f32>,
    generated: usize,
    columns: Columns,
    dim: usize,
    /// Guidance weight of the unconditional targets.
    weight: f32,
}

impl Problem {
    /// Problem number `index` = group * T + location of `batch`.
    ///
    /// # Errors
    /// Vectors that are not finite or too large to square.
    pub(super) fn new(batch: &KeyBatch<'_>, index: usize, how: Distances) -> Result<Self, DriftError> {
        let (shape, features) = (batch.shape(), batch.features());
        let (group, location) = (index / shape.locations, index % shape.locations);
        let images = shape.generated + shape.unconditional + shape.positives;
        let mut points = Vec::with_capacity(images * shape.dim);
        for set in [features.generated, features.unconditional, features.positives] {
            batch.vectors(set, group, location).for_each(|vector| points.extend_from_slice(vector));
        }
        let uncentered = (how == Distances::Expanded).then(|| points.clone());
        let norms = dispatch_kernel(Center { points: &mut points, dim: shape.dim });
        // A NaN is not in the range either; about the centre, one bad number makes all of them bad.
        if norms.iter().any(|norm| !(0.0..=MAX_SQUARED_NORM).contains(norm)) {
            let set = culprit(batch, group, location);
            return Err(DriftError::NotFinite { key: batch.key().to_owned(), group, location, set });
        }
        let mut problem = Self {
            points,
            distances: Vec::new(),
            generated: shape.generated,
            columns: batch.columns(),
            dim: shape.dim,
            weight: features.weight[group],
        };
        problem.distances = match uncentered {
            None => problem.measure(&norms),
            Some(points) => dispatch_kernel(Expanded { problem: &problem, points: &points }),
        };
        Ok(problem)
    }

    /// Generated samples x `[Ng, D]` about the centre.
    pub(super) fn samples(&self) -> &[f32] {
        &self.points[..self.generated * self.dim]
    }

    /// Targets y `[targets, D]` about the centre.
    pub(super) fn targets(&self) -> &[f32] {
        &self.points[self.points.len() - self.columns.targets * self.dim..]
    }

    /// Order of the targets.
    pub(super) fn columns(&self) -> Columns {
        self.columns
    }

    /// Guidance weight of the unconditional targets.
    pub(super) fn weight(&self) -> f32 {
        self.weight
    }

    /// Length of a vector, D.
    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Sum of d W over all pairs.
    pub(super) fn weighted_distance_sum(&self) -> f64 {
        let Columns { own, negatives, targets } = self.columns;
        let row = |row: &[f32]| {
            let unconditional = self.weight * sum(&row[own..negatives]);
            f64::from(sum(&row[..own]) + unconditional + sum(&row[negatives..]))
        };
        dispatch(|| self.distances.chunks_exact(targets).map(row).sum())
    }

    /// d / unit `[Ng, targets]`, and `mask` more between a sample and itself.
    pub(super) fn scaled_distances(&self, unit: f32, mask: Option<f32>) -> Vec<f32> {
        let mut scaled: Vec<f32> = self.distances.iter().map(|distance| distance / unit).collect();
        if let Some(mask) = mask {
            // No generated sample is a target of its own unless they all are.
            let own = self.columns.own;
            scaled.chunks_exact_mut(self.columns.targets).take(own).enumerate().for_each(|(i, row)| row[i] += mask);
        }
        scaled
    }

    /// sqrt(max(|x|^2 + |y|^2 - 2 x.y, 1e-8)) from the squared norms of all points.
    fn measure(&self, norms: &[f32]) -> Vec<f32> {
        let targets = self.columns.targets;
        let mut distances = vec![0.0; self.generated * targets];
        let x = Matrix::new(self.samples(), self.generated, self.dim);
        let y = Matrix::new(self.targets(), targets, self.dim);
        matmul(&mut distances, x, y.t(), 1.0, Threads::One);
        dispatch_kernel(Complete { problem: self, distances: &mut distances, norms });
        distances
    }

    /// Squared distances of one sample, those that cancellation has spoilt computed number by number.
    fn measure_again(&self, sample: usize, squared: &mut [f32], norm: f32, target_norms: &[f32]) {
        for (target, (squared, target_norm)) in squared.iter_mut().zip(target_norms).enumerate() {
            if *squared < CANCELLED * (norm + target_norm) {
                *squared = self.squared_difference(sample, target);
            }
        }
    }

    fn squared_difference(&self, sample: usize, target: usize) -> f32 {
        let x = &self.samples()[sample * self.dim..][..self.dim];
        let y = &self.targets()[target * self.dim..][..self.dim];
        x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum()
    }
}

/// From inner products to distances.
struct Complete<'a> {
    problem: &'a Problem,
    distances: &'a mut [f32],
    norms: &'a [f32],
}

impl Kernel for Complete<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { problem, distances, norms } = self;
        let Columns { own, targets, .. } = problem.columns;
        let target_norms = &norms[norms.len() - targets..];
        for (i, (row, &norm)) in distances.chunks_exact_mut(targets).zip(norms).enumerate() {
            // To itself, where all digits are lost, the distance is known.
            row[..own].iter_mut().skip(i).take(1).for_each(|itself| *itself = 0.0);
            let mut lost = false;
            for (distance, target_norm) in row.iter_mut().zip(target_norms) {
                let sum = norm + target_norm;
                *distance = sum - 2.0 * *distance;
                lost |= *distance < CANCELLED * sum;
            }
            if lost {
                problem.measure_again(i, row, norm, target_norms);
            }
            row[..own].iter_mut().skip(i).take(1).for_each(|itself| *itself = 0.0);
            row.iter_mut().for_each(|distance| *distance = distance.max(MIN_SQUARED_DISTANCE).sqrt());
        }
    }
}

/// Distances of [`Distances::Expanded`]: norms and products added up in order, the latter fused.
struct Expanded<'a> {
    problem: &'a Problem,
    /// As [`Problem::points`], not centred.
    points: &'a [f32],
}

impl Kernel for Expanded<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let Problem { generated, columns, dim, .. } = *self.problem;
        let norm = |x: &[f32]| x.iter().fold(0.0, |sum, x| sum + x * x);
        let samples = &self.points[..generated * dim];
        let targets = &self.points[self.points.len() - columns.targets * dim..];
        let mut distances = Vec::with_capacity(generated * columns.targets);
        for x in samples.chunks_exact(dim) {
            distances.extend(targets.chunks_exact(dim).map(|y| {
                let product = x.iter().zip(y).fold(0.0f32, |sum, (x, y)| x.mul_add(*y, sum));
                (norm(x) + norm(y) - 2.0 * product).max(MIN_SQUARED_DISTANCE).sqrt()
            }));
        }
        distances
    }
}

/// The set with the first vector that cannot be squared.
fn culprit(batch: &KeyBatch<'_>, group: usize, location: usize) -> &'static str {
    let features = batch.features();
    let sets = [
        ("generated", features.generated),
        ("unconditional", features.unconditional),
        ("positive", features.positives),
    ];
    let bad = |vector: &[f32]| !(0.0..=f64::from(MAX_SQUARED_NORM)).contains(&sum_of_squares(vector));
    sets.into_iter().find(|(_, set)| batch.vectors(set, group, location).any(bad)).map_or("some", |(name, _)| name)
}

/// Takes the mean of the points from each of them; gives their squared norms.
struct Center<'a> {
    points: &'a mut [f32],
    dim: usize,
}

impl Kernel for Center<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let Self { points, dim } = self;
        let rows = points.len() / dim;
        let mut mean = vec![0.0; dim];
        for point in points.chunks_exact(dim) {
            mean.iter_mut().zip(point).for_each(|(mean, value)| *mean += value);
        }
        mean.iter_mut().for_each(|mean| *mean /= rows as f32);
        let norm = |point: &mut [f32]| {
            point.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
            squares(point) as f32
        };
        points.chunks_exact_mut(dim).map(norm).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Features, KeyShape};
    use super::*;

    fn batch<'a>(generated: &'a [f32], positives: &'a [f32]) -> KeyBatch<'a> {
        let shape = KeyShape { groups: 1, locations: 1, generated: 2, positives: 1, unconditional: 0, dim: 2 };
        KeyBatch::new("test", shape, Features { generated, positives, unconditional: &[], weight: &[0.0] }).unwrap()
    }

    #[test]
    fn distances_are_euclidean_wherever_the_points_are() {
        for offset in [0.0, 1e4] {
            let points = [offset, 0.0, offset + 3.0, 4.0, offset, 1.0];
            let problem = Problem::new(&batch(&points[..4], &points[4..]), 0, Distances::Accurate).unwrap();
            let expected = [1e-4, 5.0, 1.0, 5.0, 1e-4, 18f32.sqrt()];
            for (found, expected) in problem.distances.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6 * expected.max(1.0), "{found} {expected}");
            }
            let masked = problem.scaled_distances(2.0, Some(100.0));
            assert!(masked[0] > 99.9 && masked[4] > 99.9 && (masked[1] - 2.5).abs() < 1e-2);
        }
    }

    #[test]
    fn expanded_distances_are_those_of_the_formula() {
        let problem = Problem::new(&batch(&[0.0, 0.0, 3.0, 4.0], &[0.0, 1.0]), 0, Distances::Expanded).unwrap();
        for (found, expected) in problem.distances.iter().zip([1e-4, 5.0, 1.0, 5.0, 1e-4, 18f32.sqrt()]) {
            assert!((found - expected).abs() < 1e-6 * expected.max(1.0), "{found} {expected}");
        }
        // Far from zero, what is lost is not restored.
        let far = Problem::new(&batch(&[1e4, 0.0, 1e4 + 3.0, 4.0], &[1e4, 1.0]), 0, Distances::Expanded).unwrap();
        assert!((far.distances[1] - 5.0).abs() > 1e-3, "{}", far.distances[1]);
    }

    #[test]
    fn points_in_one_place_are_1e_4_apart() {
        let problem = Problem::new(&batch(&[7.3, -2.1, 7.3, -2.1], &[7.3, -2.1]), 0, Distances::Accurate).unwrap();
        assert_eq!(problem.distances, [1e-4; 6]);
        assert!((problem.weighted_distance_sum() - 6e-4).abs() < 1e-9);
    }

    #[test]
    fn numbers_that_cannot_be_squared_are_errors_that_say_where() {
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let error = Problem::new(&batch(&[0.0, 1.0, 2.0, bad], &[0.0, 0.0]), 0, Distances::Accurate)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("feature key test: class group 0, location 0:"), "{error}");
        }
    }
}
