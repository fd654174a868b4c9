//! Inner products between the rows of matrices, for matrices whose rows are long and few.
//!
//! A general product packs the transposed matrix first, which costs as much as the product where it is narrow. Here the
//! vectors of the processor run along the rows as they lie.

use pulp::Simd;

/// Where the products go: row i of x and row j of y at `i * stride + j`.
#[derive(Debug)]
pub struct Products<'a> {
    /// At least the last product's place.
    pub values: &'a mut [f32],
    /// Distance between the products of two rows of x.
    pub stride: usize,
}

/// The products of all rows of `x` with all rows of `y`, both row-major with rows of `dim` numbers.
///
/// # Panics
/// Lengths that are no multiple of `dim`, or too few places: a mistake of the caller's, never of the data.
pub fn row_products(out: Products<'_>, x: &[f32], y: &[f32], dim: usize) {
    run(out, x, y, dim, false);
}

/// The products of all rows of `x` with each other; each is computed once and written twice.
///
/// # Panics
/// As [`row_products`].
pub fn symmetric_row_products(out: Products<'_>, x: &[f32], dim: usize) {
    run(out, x, x, dim, true);
}

fn run(out: Products<'_>, x: &[f32], y: &[f32], dim: usize, symmetric: bool) {
    let (rows, columns) = (x.len() / dim, y.len() / dim);
    assert!(x.len() == rows * dim && y.len() == columns * dim, "{} and {} numbers in rows of {dim}", x.len(), y.len());
    if rows * columns > 0 {
        let needed = (rows - 1) * out.stride + columns;
        assert!(columns <= out.stride && out.values.len() >= needed, "{} of {needed} places", out.values.len());
        pulp::Arch::new().dispatch(Task { out, x, y, dim, symmetric });
    }
}

struct Task<'a> {
    out: Products<'a>,
    x: &'a [f32],
    y: &'a [f32],
    dim: usize,
    symmetric: bool,
}

impl pulp::WithSimd for Task<'_> {
    type Output = ();

    // As many sums as stay in registers. The rows of x that are worked together stay in the nearest cache while those of y pass by, so
    // that fewer of the latter mean fewer bytes for each sum.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16.. => self.run::<S, 8, 3>(simd),
            _ => self.run::<S, 4, 3>(simd),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const COLUMNS: usize>(self, simd: S) {
        let Self { out: Products { values, stride }, x, y, dim, symmetric } = self;
        let (rows, columns) = (x.len() / dim, y.len() / dim);
        for i in (0..rows).step_by(ROWS) {
            for j in (if symmetric { i } else { 0 }..columns).step_by(COLUMNS) {
                let sums = tile::<S, ROWS, COLUMNS>(simd, tile_rows(x, dim, i), tile_rows(y, dim, j));
                for (i, sums) in (i..rows).zip(sums) {
                    for (j, sum) in (j..columns).zip(sums) {
                        values[i * stride + j] = sum;
                        if symmetric {
                            values[j * stride + i] = sum;
                        }
                    }
                }
            }
        }
    }
}

/// The rows from `first` on; past the end, the last one again.
#[inline(always)]
fn tile_rows<const COUNT: usize>(x: &[f32], dim: usize, first: usize) -> [&[f32]; COUNT] {
    let last = x.len() / dim - 1;
    std::array::from_fn(|row| &x[(first + row).min(last) * dim..][..dim])
}

/// Loops rather than `map`, whose closures the compiler leaves outside of what is compiled for the processor at hand.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    simd: S,
    x: [&[f32]; ROWS],
    y: [&[f32]; COLUMNS],
) -> [[f32; COLUMNS]; ROWS] {
    let (x, y) = (heads_and_rests::<S, ROWS>(x), heads_and_rests::<S, COLUMNS>(y));
    let len = x.0[0].len();
    let mut sums = [[simd.splat_f32s(0.0); COLUMNS]; ROWS];
    let mut right = [simd.splat_f32s(0.0); COLUMNS];
    for k in 0..len {
        for (right, y) in right.iter_mut().zip(&y.0) {
            *right = y[..len][k];
        }
        for (sums, x) in sums.iter_mut().zip(&x.0) {
            add(simd, sums, x[..len][k], &right);
        }
    }
    if !x.1[0].is_empty() {
        for (right, y) in right.iter_mut().zip(y.1) {
            *right = simd.partial_load_f32s(y);
        }
        for (sums, x) in sums.iter_mut().zip(x.1) {
            add(simd, sums, simd.partial_load_f32s(x), &right);
        }
    }
    let mut totals = [[0.0; COLUMNS]; ROWS];
    for (totals, sums) in totals.iter_mut().zip(&sums) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = simd.reduce_sum_f32s(*sum);
        }
    }
    totals
}

/// Rows as whole vectors, and what is left of each.
#[inline(always)]
fn heads_and_rests<S: Simd, const COUNT: usize>(rows: [&[f32]; COUNT]) -> ([&[S::f32s]; COUNT], [&[f32]; COUNT]) {
    let (mut heads, mut rests): ([&[S::f32s]; COUNT], [&[f32]; COUNT]) = ([&[]; COUNT], [&[]; COUNT]);
    for row in 0..COUNT {
        (heads[row], rests[row]) = S::as_simd_f32s(rows[row]);
    }
    (heads, rests)
}

#[inline(always)]
fn add<S: Simd, const COLUMNS: usize>(simd: S, sums: &mut [S::f32s; COLUMNS], x: S::f32s, y: &[S::f32s; COLUMNS]) {
    for (sum, y) in sums.iter_mut().zip(y) {
        *sum = simd.mul_add_e_f32s(x, *y, *sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, whose products have no rounding.
    fn matrix(rows: usize, dim: usize, seed: usize) -> Vec<f32> {
        (0..rows * dim).map(|i| ((i * 7 + seed) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn every_pair_of_rows_is_multiplied() {
        for dim in [1, 3, 16, 33, 70] {
            for (rows, columns) in [(1, 1), (4, 4), (5, 3), (3, 9), (8, 10)] {
                let (x, y) = (matrix(rows, dim, 1), matrix(columns, dim, 4));
                let stride = columns + 2;
                let mut out = vec![f32::NAN; rows * stride];
                row_products(Products { values: &mut out, stride }, &x, &y, dim);
                for (i, found) in out.chunks_exact(stride).enumerate() {
                    for (j, &found) in found[..columns].iter().enumerate() {
                        let pairs = x[i * dim..][..dim].iter().zip(&y[j * dim..][..dim]);
                        assert_eq!(found, pairs.map(|(x, y)| x * y).sum::<f32>());
                    }
                    assert!(found[columns..].iter().all(|value| value.is_nan()));
                }
                let (mut one, mut other) = (vec![0.0; rows * rows], vec![0.0; rows * rows]);
                symmetric_row_products(Products { values: &mut one, stride: rows }, &x, dim);
                row_products(Products { values: &mut other, stride: rows }, &x, &x, dim);
                assert_eq!(one, other);
            }
        }
    }
}
