//! One class group at one location: its vectors and the distances between them (method step 1).

use drifting_models::ops::matmul::{Matrix, Threads, matmul};
use drifting_models::ops::row_products::{Products, row_products, symmetric_row_products};
use drifting_models::ops::simd::{Kernel, dispatch, dispatch_kernel};

use super::DriftError;
use super::batch::{Columns, KeyBatch};
use super::numeric::{squared_difference, squares, sum, sum_of_squares};

/// Length of vectors from which their products are faster row by row than as a product of matrices.
const LONG: usize = 256;
/// Least squared distance, so that a sample's distance to itself is 1e-4.
pub(super) const MIN_SQUARED_DISTANCE: f32 = 1e-8;
/// Largest squared norm of a vector about the centre; the square of a drift in f32 overflows not far above.
const MAX_SQUARED_NORM: f32 = 1e30;
/// Share of |x|^2 + |y|^2 below which their difference to 2 x.y has lost too many digits.
const CANCELLED: f32 = 1.0 / 64.0;

/// The points of a problem, in memory that is used for one problem after the other. A generated sample meets every target
/// of its problem and none of another.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// Generated samples x, then the targets y that are not among them: `[rows, D]`, their mean taken away. Drifts do
    /// not depend on the mean, the precision of distances does.
    values: Vec<f32>,
    /// Their squared norms.
    norms: Vec<f32>,
    mean: Vec<f32>,
    generated: usize,
    columns: Columns,
    dim: usize,
}

impl Points {
    /// Takes the points of problem number `index` = group * T + location of `batch`.
    ///
    /// # Errors
    /// Vectors that are not finite or too large to square.
    pub(super) fn gather(&mut self, batch: &KeyBatch<'_>, index: usize) -> Result<(), DriftError> {
        self.load(batch, index, true);
        // A NaN is not in the range either; about the centre, one bad number makes all of them bad.
        if self.norms.iter().any(|norm| !(0.0..=MAX_SQUARED_NORM).contains(norm)) {
            let (group, location) = (index / batch.shape().locations, index % batch.shape().locations);
            let set = culprit(batch, group, location);
            return Err(DriftError::NotFinite { key: batch.key().to_owned(), group, location, set });
        }
        Ok(())
    }

    /// As [`gather`](Self::gather), about the centre or as they are.
    fn load(&mut self, batch: &KeyBatch<'_>, index: usize, centred: bool) {
        let (shape, locations) = (batch.shape(), batch.shape().locations);
        let (group, location) = (index / locations, index % locations);
        let images = shape.generated + shape.unconditional + shape.positives;
        (self.generated, self.columns, self.dim) = (shape.generated, batch.columns(), shape.dim);
        self.values.resize(images * shape.dim, 0.0);
        self.norms.resize(images, 0.0);
        self.mean.clear();
        self.mean.resize(shape.dim, 0.0);
        dispatch_kernel(Gather { points: self, batch, group, location, centred });
    }

    /// Generated samples x `[Ng, D]` about the centre.
    pub(super) fn samples(&self) -> &[f32] {
        &self.values[..self.generated * self.dim]
    }

    /// Targets y `[targets, D]` about the centre.
    pub(super) fn targets(&self) -> &[f32] {
        &self.values[self.values.len() - self.columns.targets * self.dim..]
    }

    /// Whether the samples are among the targets, as their first ones.
    pub(super) fn samples_are_targets(&self) -> bool {
        self.columns.own > 0
    }

    /// Targets that are no samples, about the centre.
    fn others(&self) -> &[f32] {
        &self.values[self.generated * self.dim..]
    }

    /// sqrt(max(|x|^2 + |y|^2 - 2 x.y, 1e-8)) into `distances` `[Ng, targets]`.
    pub(super) fn measure(&self, distances: &mut [f32]) {
        let Columns { own, targets, .. } = self.columns;
        if self.dim < LONG {
            let (x, y) = (self.samples(), self.targets());
            let (x, y) = (Matrix::new(x, self.generated, self.dim), Matrix::new(y, targets, self.dim));
            matmul(distances, x, y.t(), 1.0, Threads::One);
        } else {
            if own > 0 {
                symmetric_row_products(Products { values: distances, stride: targets }, self.samples(), self.dim);
            }
            let products = Products { values: &mut distances[own..], stride: targets };
            row_products(products, self.samples(), self.others(), self.dim);
        }
        let norms = [&self.norms[..], &self.norms[self.norms.len() - targets..]];
        let sets = [self.samples(), self.targets()];
        dispatch_kernel(Complete { products: distances, norms, sets, dim: self.dim, same: own > 0 });
        dispatch(|| distances.iter_mut().for_each(|square| *square = square.max(MIN_SQUARED_DISTANCE).sqrt()));
    }

    /// The distances of [`Distances::Expanded`](super::settings::Distances::Expanded), for which the points of problem
    /// `index` are taken as they are; they have to be gathered again.
    pub(super) fn measure_expanded(&mut self, batch: &KeyBatch<'_>, index: usize, distances: &mut [f32]) {
        self.load(batch, index, false);
        dispatch_kernel(Expanded { points: self, distances });
    }

    /// |y - z|^2 into `squares` of all pairs of targets that are no samples.
    pub(super) fn measure_others(&self, squares: &mut [f32]) {
        let others = self.others();
        symmetric_row_products(Products { values: squares, stride: others.len() / self.dim }, others, self.dim);
        let norms = [&self.norms[self.generated..]; 2];
        dispatch_kernel(Complete { products: squares, norms, sets: [others; 2], dim: self.dim, same: true });
    }
}

/// Sum of d W over all pairs, of `distances` `[Ng, targets]` and the weight of the unconditional targets.
pub(super) fn weighted_distance_sum(distances: &[f32], columns: Columns, weight: f32) -> f64 {
    dispatch_kernel(WeightedSum { distances, columns, weight })
}

struct WeightedSum<'a> {
    distances: &'a [f32],
    columns: Columns,
    weight: f32,
}

impl Kernel for WeightedSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let Self { distances, columns: Columns { own, negatives, targets }, weight } = self;
        let mut total = 0.0;
        for row in distances.chunks_exact(targets) {
            let unconditional = weight * sum(&row[own..negatives]);
            total += f64::from(sum(&row[..own]) + unconditional + sum(&row[negatives..]));
        }
        total
    }
}

/// Copies the points, takes their mean from each of them if they are to be centred, and measures what is left.
struct Gather<'a, 'b> {
    points: &'a mut Points,
    batch: &'a KeyBatch<'b>,
    group: usize,
    location: usize,
    centred: bool,
}

impl Kernel for Gather<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { points: Points { values, norms, mean, dim, .. }, batch, group, location, centred } = self;
        let features = batch.features();
        let mut rows = values.chunks_exact_mut(*dim);
        for set in [features.generated, features.unconditional, features.positives] {
            for (vector, row) in batch.vectors(set, group, location).zip(&mut rows) {
                for ((mean, value), &number) in mean.iter_mut().zip(row).zip(vector) {
                    *value = number;
                    *mean += number;
                }
            }
        }
        let share = if centred { 1.0 / norms.len() as f32 } else { 0.0 };
        mean.iter_mut().for_each(|mean| *mean *= share);
        for (row, norm) in values.chunks_exact_mut(*dim).zip(norms) {
            row.iter_mut().zip(&*mean).for_each(|(value, mean)| *value -= mean);
            *norm = squares(row) as f32;
        }
    }
}

/// From inner products of two sets to squared distances, those that cancellation has spoilt computed number by number.
struct Complete<'a> {
    products: &'a mut [f32],
    norms: [&'a [f32]; 2],
    sets: [&'a [f32]; 2],
    dim: usize,
    /// Whether the second set begins with the first: to itself, where all digits are lost, the distance is known.
    same: bool,
}

impl Kernel for Complete<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { products, norms: [norms, target_norms], sets: [samples, targets], dim, same } = self;
        let rows = products.chunks_exact_mut(target_norms.len()).zip(samples.chunks_exact(dim)).zip(norms);
        for (i, ((row, sample), &norm)) in rows.enumerate() {
            let mut lost = 0;
            for (square, target_norm) in row.iter_mut().zip(target_norms) {
                let sum = norm + target_norm;
                *square = sum - 2.0 * *square;
                lost += u32::from(*square < CANCELLED * sum);
            }
            let itself = same.then(|| &mut row[i]).map(|itself| *itself = 0.0).is_some();
            if lost > u32::from(itself) {
                for ((square, target_norm), target) in row.iter_mut().zip(target_norms).zip(targets.chunks_exact(dim)) {
                    if *square < CANCELLED * (norm + target_norm) {
                        *square = squared_difference(sample, target);
                    }
                }
            }
        }
    }
}

/// Distances from norms and products that are added up in order, the latter fused.
struct Expanded<'a> {
    points: &'a Points,
    distances: &'a mut [f32],
}

impl Kernel for Expanded<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { points, distances } = self;
        let (dim, targets) = (points.dim, points.columns.targets);
        let norm = |x: &[f32]| x.iter().fold(0.0, |sum, x| sum + x * x);
        for (x, row) in points.samples().chunks_exact(dim).zip(distances.chunks_exact_mut(targets)) {
            for (y, distance) in points.targets().chunks_exact(dim).zip(row) {
                let product = x.iter().zip(y).fold(0.0f32, |sum, (x, y)| x.mul_add(*y, sum));
                *distance = (norm(x) + norm(y) - 2.0 * product).max(MIN_SQUARED_DISTANCE).sqrt();
            }
        }
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

#[cfg(test)]
mod tests {
    use super::super::{Features, KeyShape};
    use super::*;

    fn batch<'a>(generated: &'a [f32], positives: &'a [f32]) -> KeyBatch<'a> {
        let shape = KeyShape { groups: 1, locations: 1, generated: 2, positives: 1, unconditional: 0, dim: 2 };
        KeyBatch::new("test", shape, Features { generated, positives, unconditional: &[], weight: &[0.0] }).unwrap()
    }

    fn measured(generated: &[f32], positives: &[f32]) -> Vec<f32> {
        let (mut points, mut distances) = (Points::default(), vec![0.0; 6]);
        points.gather(&batch(generated, positives), 0).unwrap();
        points.measure(&mut distances);
        distances
    }

    fn expanded(generated: &[f32], positives: &[f32]) -> Vec<f32> {
        let (mut points, mut distances) = (Points::default(), vec![0.0; 6]);
        points.measure_expanded(&batch(generated, positives), 0, &mut distances);
        distances
    }

    #[test]
    fn distances_are_euclidean_wherever_the_points_are() {
        for offset in [0.0, 1e4] {
            let points = [offset, 0.0, offset + 3.0, 4.0, offset, 1.0];
            let distances = measured(&points[..4], &points[4..]);
            let expected = [1e-4, 5.0, 1.0, 5.0, 1e-4, 18f32.sqrt()];
            for (found, expected) in distances.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6 * expected.max(1.0), "{found} {expected}");
            }
        }
    }

    #[test]
    fn expanded_distances_are_those_of_the_formula() {
        let distances = expanded(&[0.0, 0.0, 3.0, 4.0], &[0.0, 1.0]);
        for (found, expected) in distances.iter().zip([1e-4, 5.0, 1.0, 5.0, 1e-4, 18f32.sqrt()]) {
            assert!((found - expected).abs() < 1e-6 * expected.max(1.0), "{found} {expected}");
        }
        // Far from zero, what is lost is not restored.
        let far = expanded(&[1e4, 0.0, 1e4 + 3.0, 4.0], &[1e4, 1.0]);
        assert!((far[1] - 5.0).abs() > 1e-3, "{}", far[1]);
    }

    #[test]
    fn points_in_one_place_are_1e_4_apart() {
        let distances = measured(&[7.3, -2.1, 7.3, -2.1], &[7.3, -2.1]);
        assert_eq!(distances, [1e-4; 6]);
        let columns = Columns { own: 2, negatives: 2, targets: 3 };
        assert!((weighted_distance_sum(&distances, columns, 0.0) - 6e-4).abs() < 1e-9);
    }

    #[test]
    fn numbers_that_cannot_be_squared_are_errors_that_say_where() {
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let error =
                Points::default().gather(&batch(&[0.0, 1.0, 2.0, bad], &[0.0, 0.0]), 0).unwrap_err().to_string();
            assert!(error.starts_with("feature key test: class group 0, location 0:"), "{error}");
        }
    }
}
