//! Inner products between the rows of matrices, for matrices whose rows are long and few.
//!
//! A general product packs the transposed matrix first, which costs as much as the product where it is narrow. Here the
//! vectors of the processor run along the rows as they lie.

use pulp::Simd;

/// Rows of either matrix that are worked together: 16 sums stay in registers.
const TILE: usize = 4;

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

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out: Products { values, stride }, x, y, dim, symmetric } = self;
        let (rows, columns) = (x.len() / dim, y.len() / dim);
        for i in (0..rows).step_by(TILE) {
            for j in (if symmetric { i } else { 0 }..columns).step_by(TILE) {
                let sums = tile(simd, tile_rows(x, dim, i), tile_rows(y, dim, j));
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
fn tile_rows(x: &[f32], dim: usize, first: usize) -> [&[f32]; TILE] {
    let last = x.len() / dim - 1;
    std::array::from_fn(|row| &x[(first + row).min(last) * dim..][..dim])
}

/// Loops rather than `map`, whose closures the compiler leaves outside of what is compiled for the processor at hand.
#[inline(always)]
fn tile<S: Simd>(simd: S, x: [&[f32]; TILE], y: [&[f32]; TILE]) -> [[f32; TILE]; TILE] {
    let (x, y) = (heads_and_rests::<S>(x), heads_and_rests::<S>(y));
    let len = x.0[0].len();
    let mut sums = [[simd.splat_f32s(0.0); TILE]; TILE];
    let (mut left, mut right) = ([simd.splat_f32s(0.0); TILE], [simd.splat_f32s(0.0); TILE]);
    for k in 0..len {
        for row in 0..TILE {
            left[row] = x.0[row][..len][k];
            right[row] = y.0[row][..len][k];
        }
        add(simd, &mut sums, &left, &right);
    }
    if !x.1[0].is_empty() {
        for row in 0..TILE {
            left[row] = simd.partial_load_f32s(x.1[row]);
            right[row] = simd.partial_load_f32s(y.1[row]);
        }
        add(simd, &mut sums, &left, &right);
    }
    let mut totals = [[0.0; TILE]; TILE];
    for (totals, sums) in totals.iter_mut().zip(&sums) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = simd.reduce_sum_f32s(*sum);
        }
    }
    totals
}

/// Rows as whole vectors, and what is left of each.
#[inline(always)]
fn heads_and_rests<S: Simd>(rows: [&[f32]; TILE]) -> ([&[S::f32s]; TILE], [&[f32]; TILE]) {
    let (mut heads, mut rests): ([&[S::f32s]; TILE], [&[f32]; TILE]) = ([&[]; TILE], [&[]; TILE]);
    for row in 0..TILE {
        (heads[row], rests[row]) = S::as_simd_f32s(rows[row]);
    }
    (heads, rests)
}

#[inline(always)]
fn add<S: Simd>(simd: S, sums: &mut [[S::f32s; TILE]; TILE], x: &[S::f32s; TILE], y: &[S::f32s; TILE]) {
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, y) in sums.iter_mut().zip(y) {
            *sum = simd.mul_add_e_f32s(*x, *y, *sum);
        }
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
