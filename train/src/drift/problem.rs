//! One class group at one location: the distances between its points (method step 1).

use drifting_models::ops::lanes::{LaneKernel, Lanes, dispatch_lanes};
use drifting_models::ops::matmul::{Matrix, matmul_to_rows};
use drifting_models::ops::row_products::{Products as Places, row_products, symmetric_row_products};
use drifting_models::ops::simd::{Kernel, LANES, dispatch_kernel};
use pulp::Simd;

use super::DriftError;
use super::batch::{Columns, KeyBatch};
use super::numeric::{lane_squares, squared_difference, sum_of_squares};
use super::points::Points;

/// Length of vectors from which their products are faster row by row than as a product of matrices.
const LONG: usize = 256;
/// Least squared distance, so that a sample's distance to itself is 1e-4.
pub(super) const MIN_SQUARED_DISTANCE: f32 = 1e-8;
/// Largest squared norm of a vector about the centre; the square of a drift in f32 overflows not far above.
const MAX_SQUARED_NORM: f32 = 1e30;
/// Share of |x|^2 + |y|^2 below which their difference to 2 x.y has lost too many digits.
const CANCELLED: f32 = 1.0 / 64.0;

/// Measures one problem after the other.
#[derive(Debug, Default)]
pub(super) struct Ruler {
    /// Squared norms of all points, then zeros up to whole vectors.
    norms: Vec<f32>,
    /// Weights of the targets, those that fill up a row being 0.
    weights: Vec<f32>,
}

impl Ruler {
    /// Weighs the points of problem `index` of `batch`, which are the next to be measured.
    ///
    /// # Errors
    /// Points that are not finite or too large to square.
    pub(super) fn check(&mut self, points: Points<'_>, batch: &KeyBatch<'_>, index: usize) -> Result<(), DriftError> {
        self.weigh(points);
        // A NaN is not in the range either; about the centre, one bad number makes all of them bad.
        if self.norms.iter().all(|norm| (0.0..=MAX_SQUARED_NORM).contains(norm)) {
            return Ok(());
        }
        let (group, location) = (index / batch.shape().locations, index % batch.shape().locations);
        let set = culprit(batch, group, location);
        Err(DriftError::NotFinite { key: batch.key().to_owned(), group, location, set })
    }

    /// sqrt(max(|x|^2 + |y|^2 - 2 x.y, 1e-8)) into `distances` `[Ng, stride]` of points about their centre; gives the sum of d W,
    /// `weight` being that of the unconditional targets.
    pub(super) fn measure(&mut self, points: Points<'_>, weight: f32, distances: &mut [f32]) -> f64 {
        let (columns, stride) = (points.columns(), points.columns().stride());
        let Columns { own, targets, .. } = columns;
        if points.rounded().is_some() {
            // The products are there.
        } else if points.dim() < LONG {
            let (x, y) = (points.samples(), points.targets());
            let x = Matrix::new(x, x.len() / points.dim(), points.dim());
            matmul_to_rows(distances, stride, x.exact(), Matrix::new(y, targets, points.dim()).t());
        } else {
            if own > 0 {
                symmetric_row_products(Places { values: distances, stride }, points.samples(), points.dim());
            }
            row_products(
                Places { values: &mut distances[own..], stride },
                points.samples(),
                points.others(),
                points.dim(),
            );
        }
        let x = (points.samples(), &self.norms[..points.samples().len() / points.dim()]);
        let y = (points.targets(), &self.norms[self.norms.len() - LANES - targets..][..stride]);
        dispatch_lanes(Complete { products: distances, x, y, dim: points.dim(), same: own > 0 });
        self.roots(columns, weight, distances)
    }

    /// The distances of [`Distances::Expanded`](super::settings::Distances::Expanded), for which `points` are as they are.
    pub(super) fn measure_expanded(&mut self, points: Points<'_>, weight: f32, distances: &mut [f32]) -> f64 {
        dispatch_kernel(Expanded { points, distances });
        self.roots(points.columns(), weight, distances)
    }

    /// |y - z|^2 into `squares` `[others, others]` of all pairs of targets that are no samples; rows are filled up to whole
    /// vectors.
    pub(super) fn measure_others(&self, points: Points<'_>, squares: &mut [f32]) {
        let (others, dim) = (points.others(), points.dim());
        let stride = points.others_stride();
        if points.rounded().is_none() {
            symmetric_row_products(Places { values: squares, stride }, others, dim);
        }
        let norms = &self.norms[self.norms.len() - LANES - others.len() / dim..][..stride];
        dispatch_lanes(Complete { products: squares, x: (others, norms), y: (others, norms), dim, same: true });
    }

    /// Squared norms of all points.
    fn weigh(&mut self, points: Points<'_>) {
        let images = points.all().len() / points.dim();
        self.norms.clear();
        if let Some(rounded) = points.rounded() {
            self.norms.extend_from_slice(rounded.norms);
            return self.norms.resize(images + LANES, 0.0);
        }
        self.norms.resize(images + LANES, 0.0);
        dispatch_lanes(Weigh { points, norms: &mut self.norms[..images] });
    }

    /// Roots of the squared distances, the numbers that fill up a row being 1e-4; sum of d W.
    fn roots(&mut self, Columns { own, negatives, targets }: Columns, weight: f32, distances: &mut [f32]) -> f64 {
        self.weights.clear();
        self.weights.resize(targets, 1.0);
        self.weights[own..negatives].fill(weight);
        self.weights.resize(targets.next_multiple_of(LANES), 0.0);
        dispatch_lanes(Roots { weights: &self.weights, distances })
    }
}

/// Squared norms.
struct Weigh<'a> {
    points: Points<'a>,
    norms: &'a mut [f32],
}

impl LaneKernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        for (norm, point) in self.norms.iter_mut().zip(self.points.all().chunks_exact(self.points.dim())) {
            *norm = lane_squares::<S, N>(simd, point) as f32;
        }
    }
}

/// From inner products of two sets to squared distances, those that cancellation has spoilt computed number by number.
struct Complete<'a> {
    /// Rows as long as the second set's norms.
    products: &'a mut [f32],
    /// A set `[rows, D]` and its squared norms.
    x: (&'a [f32], &'a [f32]),
    /// As `x`, the norms filled up with zeros to whole vectors.
    y: (&'a [f32], &'a [f32]),
    dim: usize,
    /// Whether the second set begins with the first: to itself, where all digits are lost, the distance is known.
    same: bool,
}

impl LaneKernel for Complete<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { products, x: (x, norms), y: (y, y_norms), dim, same } = self;
        let (minus_two, cancelled) = (Lanes::<S, N>::splat(simd, -2.0), Lanes::splat(simd, -CANCELLED));
        let targets = y.len() / dim;
        let rows = products.chunks_exact_mut(y_norms.len()).zip(x.chunks_exact(dim)).zip(norms);
        for (i, ((row, x), &norm)) in rows.enumerate() {
            row[targets..].fill(0.0);
            if same {
                row[i] = 0.0;
            }
            let x_norm = Lanes::<S, N>::splat(simd, norm);
            // What is left of each square beyond what it must be.
            let mut least = Lanes::<S, N>::splat(simd, 0.0);
            for (square, y_norm) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(y_norms.as_chunks::<LANES>().0) {
                let sum = x_norm.add(simd, Lanes::load(simd, y_norm));
                let found = Lanes::<S, N>::load(simd, square).mul_add(simd, minus_two, sum);
                least = least.min(simd, sum.mul_add(simd, cancelled, found));
                found.store(square);
            }
            if same {
                row[i] = 0.0;
            }
            if least.smallest(simd) < 0.0 {
                for ((square, y_norm), y) in row.iter_mut().zip(y_norms).zip(y.chunks_exact(dim)) {
                    if *square < CANCELLED * (norm + y_norm) {
                        *square = squared_difference(x, y);
                    }
                }
            }
        }
    }
}

/// Distances from their squares, and the sum of d W.
struct Roots<'a> {
    /// Of a row.
    weights: &'a [f32],
    distances: &'a mut [f32],
}

impl LaneKernel for Roots<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) -> f64 {
        let least = Lanes::<S, N>::splat(simd, MIN_SQUARED_DISTANCE);
        let mut total = 0.0;
        for row in self.distances.chunks_exact_mut(self.weights.len()) {
            let mut sum = Lanes::<S, N>::splat(simd, 0.0);
            for (distance, weight) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(self.weights.as_chunks::<LANES>().0)
            {
                let root = Lanes::<S, N>::load(simd, distance).max(simd, least).sqrt(simd);
                sum = root.mul_add(simd, Lanes::load(simd, weight), sum);
                root.store(distance);
            }
            total += f64::from(sum.sum(simd));
        }
        total
    }
}

/// Squared distances from norms and products that are added up in order, the latter fused.
struct Expanded<'a> {
    points: Points<'a>,
    distances: &'a mut [f32],
}

impl Kernel for Expanded<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { points, distances } = self;
        let (dim, stride) = (points.dim(), points.columns().stride());
        let norm = |x: &[f32]| x.iter().fold(0.0, |sum, x| sum + x * x);
        for (x, row) in points.samples().chunks_exact(dim).zip(distances.chunks_exact_mut(stride)) {
            row.fill(0.0);
            for (y, square) in points.targets().chunks_exact(dim).zip(row) {
                let product = x.iter().zip(y).fold(0.0f32, |sum, (x, y)| x.mul_add(*y, sum));
                *square = norm(x) + norm(y) - 2.0 * product;
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
    use super::super::points::Gathered;
    use super::super::{Features, KeyShape, Products};
    use super::*;

    fn batch<'a>(generated: &'a [f32], positives: &'a [f32]) -> KeyBatch<'a> {
        let shape = KeyShape { groups: 1, locations: 1, generated: 2, positives: 1, unconditional: 0, dim: 2 };
        KeyBatch::new("test", shape, Features { generated, positives, unconditional: &[], weight: &[0.0] }).unwrap()
    }

    /// The distances and their sum.
    fn measured(generated: &[f32], positives: &[f32]) -> Result<(Vec<f32>, f64), DriftError> {
        let (batch, mut gathered, mut distances) = (batch(generated, positives), Gathered::default(), [f32::NAN; 32]);
        gathered.gather(&batch, 0, 1);
        let (points, mut ruler) = (gathered.centred(&batch, 0, Products::F32), Ruler::default());
        ruler.check(points, &batch, 0)?;
        let sum = ruler.measure(points, 0.0, &mut distances);
        Ok(([&distances[..3], &distances[16..19]].concat(), sum))
    }

    fn expanded(generated: &[f32], positives: &[f32]) -> Vec<f32> {
        let (batch, mut gathered, mut distances) = (batch(generated, positives), Gathered::default(), [f32::NAN; 32]);
        gathered.gather(&batch, 0, 1);
        Ruler::default().measure_expanded(gathered.points(&batch, 0), 0.0, &mut distances);
        [&distances[..3], &distances[16..19]].concat()
    }

    #[test]
    fn distances_are_euclidean_wherever_the_points_are() {
        for offset in [0.0, 1e4] {
            let points = [offset, 0.0, offset + 3.0, 4.0, offset, 1.0];
            let (distances, _) = measured(&points[..4], &points[4..]).unwrap();
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
        let (distances, sum) = measured(&[7.3, -2.1, 7.3, -2.1], &[7.3, -2.1]).unwrap();
        assert_eq!(distances, [1e-4; 6]);
        assert!((sum - 6e-4).abs() < 1e-9);
    }

    #[test]
    fn numbers_that_cannot_be_squared_are_errors_that_say_where() {
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let error = measured(&[0.0, 1.0, 2.0, bad], &[0.0, 0.0]).unwrap_err().to_string();
            assert!(error.starts_with("feature key test: class group 0, location 0:"), "{error}");
        }
    }
}
