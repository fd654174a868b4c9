//! Matrix products on plain slices.

use crate::profile;

/// A matrix in a slice: element (row, column) is at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
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
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed view.
    #[must_use]
    pub fn t(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
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
    product((out, b.columns), a, b, (None, scale), threads);
}

/// a b on the calling thread, to rows that begin `stride` values apart in `out`.
///
/// # Panics
/// As [`matmul`].
pub fn matmul_to_rows(out: &mut [f32], stride: usize, a: Matrix<'_>, b: Matrix<'_>) {
    product((out, stride), a, b, (None, 1.0), Threads::One);
}

/// `out` (row-major) += a b, on the calling thread.
///
/// # Panics
/// As [`matmul`].
pub fn add_matmul(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    product((out, b.columns), a, b, (Some(1.0), 1.0), Threads::One);
}

/// `out` = `keep` * out + `scale` * a b; rows of `out` begin `stride` values apart.
fn product(
    (out, stride): (&mut [f32], usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    (keep, scale): (Option<f32>, f32),
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let fits = b.rows == k && n <= stride && out.len() == m * stride;
    assert!(fits, "{m}x{k} times {}x{n} into {} values, {stride} in a row", b.rows, out.len());
    let _span = profile::span("matrix product").flops(2 * m * k * n);
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: `Matrix` is checked at its creation to hold its last element, so every address that gemm reads is inside
    // `values`; `out` holds m rows of `stride` >= n values, checked above, and is borrowed exclusively.
    #[allow(unsafe_code, reason = "gemm's only interface takes pointers")]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            keep.is_some(),
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            keep.unwrap_or(0.0),
            scale,
            false,
            false,
            false,
            parallelism,
        );
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
    }

    #[test]
    #[should_panic(expected = "a matrix of 2x3 in 5 values")]
    fn a_short_slice_is_refused() {
        let _ = Matrix::new(&[0.0; 5], 2, 3);
    }
}
