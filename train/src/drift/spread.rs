//! The squares of drifts from distances alone.
//!
//! Where the coefficients w of a drift V = sum of w_y y sum to 0, |V|^2 = -1/2 sum of w_y w_z |y - z|^2. Of long vectors the
//! distances between all targets cost less than the drifts of all temperatures, and the vectors are not read again.

use drifting_models::ops::matmul::{Matrix, Threads, matmul};
use drifting_models::ops::simd::{Kernel, LANES, dispatch_kernel};

use super::batch::{Columns, KeyShape};
use super::numeric::{absolute_sum, dot};
use super::problem::MIN_SQUARED_DISTANCE;

/// Least share of (sum of |w|)^2 max |y - z|^2 that |V|^2 may be: below, its terms have cancelled each other.
const CANCELLED: f64 = 1.0 / 1024.0;

/// Whether the squares of `temperatures` drifts take fewer operations this way.
pub(super) fn pays(shape: KeyShape, columns: Columns, temperatures: usize) -> bool {
    let KeyShape { generated, dim, .. } = shape;
    let Columns { own, targets, .. } = columns;
    let others = targets - own;
    let drifts = temperatures * generated * targets * dim;
    let squares = temperatures * generated * (generated * targets + others * others);
    own > 0 && squares + others * others * dim / 2 < drifts
}

/// Memory that is used for one problem after the other.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// |x - y|^2 `[Ng, targets]`, twice that between a sample and a target that is none.
    squares: Vec<f32>,
    /// Products of coefficients with squared distances: `[rows, targets]` and `[rows, others]`.
    products: Vec<f32>,
}

impl Spread {
    /// Sum of |V|^2 of each temperature into `sums`, from `coefficients` `[temperatures, Ng, stride]`, `distances` `[Ng,
    /// stride]` and the squared distances `others` of all pairs of targets that are no samples, whose rows are filled up to
    /// whole vectors. False where they have too few digits: points in one place, or drifts that are small beside the distances.
    pub(super) fn sums(
        &mut self,
        coefficients: &[f32],
        (distances, others): (&[f32], &[f32]),
        columns: Columns,
        sums: &mut [f64],
    ) -> bool {
        let (Columns { own, targets, .. }, stride) = (columns, columns.stride());
        let (rows, apart) = (coefficients.len() / stride, targets - own);
        self.squares.resize(distances.len() / stride * targets, 0.0);
        let (least, largest) = dispatch_kernel(Square { distances, columns, squares: &mut self.squares });
        if least <= MIN_SQUARED_DISTANCE {
            return false;
        }
        self.products.resize(rows * (targets + apart), 0.0);
        let (near, far) = self.products.split_at_mut(rows * targets);
        let of_samples = Matrix::strided(coefficients, rows, own, stride);
        matmul(near, of_samples.exact(), Matrix::new(&self.squares, own, targets), 1.0, Threads::One);
        let of_others = Matrix::strided(&coefficients[own..], rows, apart, stride);
        let others = Matrix::strided(others, apart, apart, apart.next_multiple_of(LANES));
        matmul(far, of_others.exact(), others, 1.0, Threads::One);
        dispatch_kernel(AddUp { coefficients, columns, near, far, largest, sums })
    }
}

/// Squares the distances; gives the least and the largest square but those of a sample to itself.
struct Square<'a> {
    distances: &'a [f32],
    columns: Columns,
    squares: &'a mut [f32],
}

impl Kernel for Square<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run(self) -> (f32, f32) {
        let (Columns { own, targets, .. }, stride) = (self.columns, self.columns.stride());
        let (mut least, mut largest) = (f32::INFINITY, 0.0);
        let rows = self.squares.chunks_exact_mut(targets).zip(self.distances.chunks_exact(stride));
        for (i, (squares, distances)) in rows.enumerate() {
            squares.iter_mut().zip(distances).for_each(|(square, distance)| *square = distance * distance);
            squares[i] = f32::INFINITY;
            least = super::numeric::min(squares).min(least);
            squares[i] = 0.0;
            largest = drifting_models::ops::simd::max(squares).max(largest);
            squares[own..].iter_mut().for_each(|square| *square *= 2.0);
        }
        // What rounding makes of the root of the least square.
        (least * (1.0 - 1e-6), largest)
    }
}

/// Sums of the squares; false where they have cancelled.
struct AddUp<'a> {
    coefficients: &'a [f32],
    columns: Columns,
    near: &'a [f32],
    far: &'a [f32],
    /// Largest squared distance.
    largest: f32,
    sums: &'a mut [f64],
}

impl Kernel for AddUp<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { coefficients, columns, near, far, largest, sums } = self;
        let Columns { own, targets, .. } = columns;
        let mut rows = coefficients
            .chunks_exact(columns.stride())
            .zip(near.chunks_exact(targets))
            .zip(far.chunks_exact(targets - own));
        let per_temperature = coefficients.len() / columns.stride() / sums.len();
        for sum in sums {
            let mut masses = 0.0;
            *sum = 0.0;
            for ((coefficients, near), far) in rows.by_ref().take(per_temperature) {
                let coefficients = &coefficients[..targets];
                *sum -= 0.5 * (dot(coefficients, near) + dot(&coefficients[own..], far));
                masses += f64::from(absolute_sum(coefficients)).powi(2);
            }
            if *sum < CANCELLED * f64::from(largest) * masses {
                return false;
            }
        }
        true
    }
}
