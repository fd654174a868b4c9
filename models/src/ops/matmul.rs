//! Matrix products on plain slices.

pub(super) mod bf16;
#[cfg(target_arch = "x86_64")]
pub(super) mod kernel;
#[cfg(target_arch = "x86_64")]
pub(super) mod native;
#[cfg(target_arch = "x86_64")]
pub(super) mod packed;
#[cfg(target_arch = "x86_64")]
pub(super) mod tiles;

use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_arch = "x86_64")]
use self::packed::{Right, Unit};

use crate::profile;

/// Rows, columns and inner numbers from which products are worth packing for.
const LEAST: usize = 8;
/// Tasks for each thread.
#[cfg(target_arch = "x86_64")]
const TASKS: usize = 2;

/// With how many digits the networks' matrix products are computed; sums, and all that is no product, are in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 24 bits.
    #[default]
    F32,
    /// Numbers are rounded to the 8 bits of bfloat16 before they are multiplied.
    Bf16,
}

/// Whether products are in bfloat16.
static HALF: AtomicBool = AtomicBool::new(false);

/// Sets the precision of all products from now on, in all threads.
pub fn set_precision(precision: Precision) {
    HALF.store(precision == Precision::Bf16, Ordering::Relaxed);
}

/// The precision of products.
#[must_use]
pub fn precision() -> Precision {
    if HALF.load(Ordering::Relaxed) { Precision::Bf16 } else { Precision::F32 }
}

/// A matrix in a slice: element (row, column) is at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
    /// That of its products; nothing where [`set_precision`] says it.
    precision: Option<Precision>,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix.
    ///
    /// # Panics
    /// Fewer values than rows * columns: a mistake of the caller's, never of the data.
    #[must_use]
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// A matrix whose rows begin `row_stride` values apart.
    ///
    /// # Panics
    /// Fewer values than the last element needs.
    #[must_use]
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let needed = if rows * columns == 0 { 0 } else { (rows - 1) * row_stride + columns };
        assert!(values.len() >= needed, "a matrix of {rows}x{columns} in {} values", values.len());
        Self { values, rows, columns, row_stride, column_stride: 1, precision: None }
    }

    /// The transposed view.
    #[must_use]
    pub fn t(self) -> Self {
        let Self { rows, columns, row_stride, column_stride, .. } = self;
        Self { rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride, ..self }
    }

    /// A matrix whose products are in this precision, whatever [`set_precision`] says; of two, the left one's holds.
    #[must_use]
    pub fn with_products(self, precision: Precision) -> Self {
        Self { precision: Some(precision), ..self }
    }

    /// As [`with_products`](Self::with_products), in single precision.
    #[must_use]
    pub fn exact(self) -> Self {
        self.with_products(Precision::F32)
    }
}

/// Who computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread.
    One,
    /// All threads of the pool.
    All,
}

/// `out` (row-major) = `scale` * a b.
///
/// # Panics
/// Shapes that do not fit each other: a mistake of the caller's, never of the data.
pub fn matmul(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, scale: f32, threads: Threads) {
    product((out, b.columns), a, b, (false, scale), threads);
}

/// a b on the calling thread, to rows that begin `stride` values apart in `out`; the last one may end with its last value.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_to_rows(out: &mut [f32], stride: usize, a: Matrix<'_>, b: Matrix<'_>) {
    product((out, stride), a, b, (false, 1.0), Threads::One);
}

/// `out` (row-major) += a b, on the calling thread.
///
/// # Panics
/// As [`matmul`].
pub fn add_matmul(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    product((out, b.columns), a, b, (true, 1.0), Threads::One);
}

/// `out` = `scale` * a b, added to what is there if `add`; rows of `out` begin `stride` values apart.
fn product(
    (out, stride): (&mut [f32], usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    (add, scale): (bool, f32),
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    check((out, stride), a, b);
    let _span = profile::span("matrix product").flops(2 * m * k * n);
    let precision = a.precision.or(b.precision).unwrap_or_else(precision);
    if precision == Precision::Bf16 && m.min(k).min(n) >= LEAST {
        return half_product((out, stride), (a, b), (add, scale), threads);
    }
    full_product((out, stride), (a, b), (add, scale), threads);
}

fn check((out, stride): (&[f32], usize), a: Matrix<'_>, b: Matrix<'_>) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let needed = if m * n == 0 { 0 } else { (m - 1) * stride + n };
    let fits = b.rows == k && n <= stride && (needed..=m * stride).contains(&out.len());
    assert!(fits, "{m}x{k} times {}x{n} into {} values, {stride} in a row", b.rows, out.len());
}

/// As [`product`], of numbers that are rounded to bfloat16.
fn half_product(
    (out, stride): (&mut [f32], usize),
    (a, b): (Matrix<'_>, Matrix<'_>),
    how: (bool, f32),
    threads: Threads,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(unit) = Unit::best() {
        return match threads {
            Threads::One => native::product(unit, (out, stride), (a, b), how),
            Threads::All => native::product_of_all(unit, (out, stride), (a, b), how),
        };
    }
    rounded_product((out, stride), (a, b), how, threads);
}

/// As [`half_product`], on processors where such products are not faster.
fn rounded_product(
    (out, stride): (&mut [f32], usize),
    (a, b): (Matrix<'_>, Matrix<'_>),
    how: (bool, f32),
    threads: Threads,
) {
    let (left, right) = (a.rounded(), b.rounded());
    let (left, right) = (Matrix::new(&left, a.rows, a.columns), Matrix::new(&right, b.rows, b.columns));
    full_product((out, stride), (left, right), how, threads);
}

/// As [`product`], in single precision.
fn full_product(
    (out, stride): (&mut [f32], usize),
    (a, b): (Matrix<'_>, Matrix<'_>),
    (add, scale): (bool, f32),
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: `Matrix` is checked at its creation to hold its last element, so every address that gemm reads is inside
    // `values`; `out` holds m rows of n values, `stride` >= n apart, as `product` checks, and is borrowed exclusively.
    #[allow(unsafe_code, reason = "gemm's only interface takes pointers")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            if add { 1.0 } else { 0.0 },
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A matrix that stands on the right of many products, laid out for them once where that is of use.
#[derive(Debug)]
pub(super) struct Factor<'a> {
    matrix: Matrix<'a>,
    #[cfg(target_arch = "x86_64")]
    packed: Option<Right>,
}

impl<'a> Factor<'a> {
    /// Lays a matrix out, by all threads.
    pub(super) fn new(matrix: Matrix<'a>) -> Self {
        #[cfg(target_arch = "x86_64")]
        let half =
            matrix.precision.unwrap_or_else(precision) == Precision::Bf16 && matrix.rows.min(matrix.columns) >= LEAST;
        Self {
            matrix,
            #[cfg(target_arch = "x86_64")]
            packed: Unit::best().filter(|_| half).map(|unit| Right::by_all(unit, matrix)),
        }
    }

    /// `out` (row-major) = a b, this being b, on the calling thread.
    ///
    /// # Panics
    /// As [`matmul`].
    pub(super) fn multiply(&self, out: &mut [f32], a: Matrix<'_>) {
        let stride = self.matrix.columns;
        #[cfg(target_arch = "x86_64")]
        if let Some(right) = self.packed.as_ref().filter(|_| a.rows >= LEAST) {
            check((out, stride), a, self.matrix);
            let _span = profile::span("matrix product").flops(2 * a.rows * a.columns * stride);
            return native::product_with(right, (out, stride), a, (false, 1.0));
        }
        product((out, stride), a, self.matrix, (false, 1.0), Threads::One);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views_are_right() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 2.0, 1.0, 0.0, 1.0];
        let mut out = [0.0; 4];
        matmul(&mut out, Matrix::new(&a, 2, 3), Matrix::new(&b, 3, 2), 1.0, Threads::One);
        assert_eq!(out, [5.0, 5.0, 14.0, 11.0]);
        let transposed = Matrix::new(&b, 2, 3).t();
        matmul(&mut out, Matrix::new(&a, 2, 3), transposed, 2.0, Threads::All);
        assert_eq!(out, [14.0, 8.0, 32.0, 20.0]);
        let first_columns = Matrix::strided(&a, 2, 2, 3);
        matmul(&mut out, first_columns, Matrix::new(&[1.0, 0.0, 0.0, 1.0], 2, 2), 1.0, Threads::One);
        assert_eq!(out, [1.0, 2.0, 4.0, 5.0]);
        add_matmul(&mut out, Matrix::new(&[1.0, 0.0, 0.0, 1.0], 2, 2), first_columns);
        assert_eq!(out, [2.0, 4.0, 8.0, 10.0]);
        let mut apart = [7.0; 6];
        matmul_to_rows(&mut apart, 3, first_columns, Matrix::new(&[0.0, 1.0, 1.0, 0.0], 2, 2));
        assert_eq!(apart, [2.0, 1.0, 7.0, 5.0, 4.0, 7.0]);
        matmul_to_rows(&mut apart[..5], 3, first_columns, Matrix::new(&[1.0, 0.0, 0.0, 1.0], 2, 2));
        assert_eq!(apart, [1.0, 2.0, 7.0, 4.0, 5.0, 7.0]);
    }

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Writes twice the product, takes it away, adds it once, and compares; rows are 3 numbers apart.
    fn check(
        (m, k, n): (usize, usize, usize),
        product: impl Fn(&mut [f32], usize, Matrix<'_>, Matrix<'_>, (bool, f32)),
    ) {
        let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
        let views = [
            (Matrix::new(&left, m, k), Matrix::new(&right, k, n)),
            (Matrix::new(&left, k, m).t(), Matrix::new(&right, k, n)),
            (Matrix::new(&left, m, k), Matrix::new(&right, n, k).t()),
            (Matrix::new(&left, k, m).t(), Matrix::new(&right, n, k).t()),
        ];
        let at = |matrix: Matrix<'_>, row: usize, column: usize| {
            let mut value = [matrix.values[row * matrix.row_stride + column * matrix.column_stride]];
            bf16::round(&mut value);
            f64::from(value[0])
        };
        for (a, b) in views {
            let stride = n + 3;
            let mut found = vec![0.5; m * stride];
            for (end, how) in [(0, (false, 2.0)), (3, (true, -2.0)), (3, (true, 1.0))] {
                // The last row may end with its last number.
                product(&mut found[..m * stride - end], stride, a, b, how);
            }
            for (i, found) in found.chunks_exact(stride).enumerate() {
                for (j, &found) in found[..n].iter().enumerate() {
                    let expected: f64 = (0..k).map(|l| at(a, i, l) * at(b, l, j)).sum();
                    let tolerance = 1e-6 * ((k as f64).sqrt() + 1.0);
                    let difference = (f64::from(found) - expected).abs();
                    assert!(difference < tolerance, "{m}x{k}x{n} ({i}, {j}): {found} {expected}");
                }
                assert_eq!(found[n..], [0.5; 3]);
            }
        }
    }

    const SIZES: [(usize, usize, usize); 8] = [
        (1, 1, 1),
        (12, 2, 32),
        (16, 32, 64),
        (13, 31, 33),
        (48, 64, 40),
        (25, 257, 40),
        (200, 530, 70),
        (3, 64, 1030),
    ];

    #[test]
    fn halves_are_rounded_and_then_multiplied() {
        for size in SIZES {
            for threads in [Threads::One, Threads::All] {
                check(size, |out, stride, a, b, how| half_product((out, stride), (a, b), how, threads));
                check(size, |out, stride, a, b, how| rounded_product((out, stride), (a, b), how, threads));
            }
        }
    }

    #[test]
    fn a_factor_multiplies_as_its_matrix_does() {
        for (m, k, n) in SIZES {
            let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
            let (a, b) = (Matrix::new(&left, m, k), Matrix::new(&right, n, k).t());
            let (mut expected, mut found) = (vec![0.0; m * n], vec![f32::NAN; m * n]);
            matmul(&mut expected, a, b, 1.0, Threads::One);
            Factor::new(b).multiply(&mut found, a);
            assert_eq!(found, expected, "{m}x{k}x{n}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn one_thread_computes_what_all_do() {
        for unit in Unit::all() {
            for size in SIZES {
                check(size, |out, stride, a, b, how| {
                    let mut shared = out.to_vec();
                    native::product(unit, (out, stride), (a, b), how);
                    native::product_of_all(unit, (&mut shared, stride), (a, b), how);
                    assert_eq!(shared, out, "{unit:?} {size:?}");
                });
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_to_the_even() {
        let mut values =
            [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 1.0 + 1.1 / 256.0, -3.0e38, f32::INFINITY, f32::NAN];
        bf16::round(&mut values);
        assert_eq!(values[..4], [1.0, 1.0, 1.0 + 4.0 / 256.0, 1.0 + 2.0 / 256.0]);
        assert!((values[4] / -3.0e38 - 1.0).abs() < 0.004 && values[5] == f32::INFINITY && values[6].is_nan());
    }

    #[test]
    #[should_panic(expected = "a matrix of 2x3 in 5 values")]
    fn a_short_slice_is_refused() {
        let _ = Matrix::new(&[0.0; 5], 2, 3);
    }
}
