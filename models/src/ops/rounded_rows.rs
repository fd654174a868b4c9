//! Rows that are rounded to bfloat16 about a centre, and their products.
//!
//! On processors with AMX the pass that takes the centre away lays the rows out for its tiles, a part of their numbers at a
//! time; on others they stay as they are, rounded, and products are those of [`matmul`](super::matmul).

use super::matmul::{Matrix, Precision, Threads, bf16, matmul, matmul_to_rows};
use super::row_products::Products;
use super::simd;
#[cfg(target_arch = "x86_64")]
use crate::profile;

#[cfg(target_arch = "x86_64")]
use super::matmul::{
    kernel::Place,
    native::multiply,
    packed::{Left, Right, Unit},
};

/// Numbers of each row that are packed and multiplied together: what belongs to them stays in the caches next to the processor.
#[cfg(target_arch = "x86_64")]
const PART: usize = 256;

/// Inner products of rows, in memory that is used for one after the other.
#[derive(Debug, Default)]
pub struct RoundedRows {
    norms: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    packed: [(Left, Right); 2],
}

impl RoundedRows {
    /// Inner products of two sets of rows `[rows, dim]` but for their `centre` `[dim]`: in `first` those of the first rows with all
    /// rows, the first ones before the second, in `second`, if they are wanted, those of the second rows with each other. Gives the
    /// squared norms of all.
    ///
    /// # Panics
    /// Parts of rows, or too few places: a mistake of the caller's, never of the data.
    pub fn multiply(
        &mut self,
        rows: [&[f32]; 2],
        centre: &[f32],
        first: Products<'_>,
        second: Option<Products<'_>>,
    ) -> &[f32] {
        let dim = centre.len();
        let counts = rows.map(|rows| rows.len() / dim);
        assert!((0..2).all(|set| rows[set].len() == counts[set] * dim), "parts of rows of {dim} numbers");
        check(&first, counts[0], counts[0] + counts[1]);
        second.iter().for_each(|second| check(second, counts[1], counts[1]));
        self.norms.clear();
        self.norms.resize(counts[0] + counts[1], 0.0);
        #[cfg(target_arch = "x86_64")]
        if Unit::Tiles.is_best() {
            let products = counts[0] * (counts[0] + counts[1]) + second.as_ref().map_or(0, |_| counts[1] * counts[1]);
            let _span = profile::span("matrix product").flops(2 * products * dim);
            let (mut first, mut second) = (first, second);
            for start in (0..dim).step_by(PART) {
                let part = start..dim.min(start + PART);
                let (norms, more) = self.norms.split_at_mut(counts[0]);
                for ((rows, (left, right)), norms) in rows.iter().zip(&mut self.packed).zip([norms, more]) {
                    left.pack_centred((rows, dim), part.clone(), centre, right, norms);
                }
                let [(left, right), (other_left, other_right)] = &self.packed;
                each_product(counts, &mut first, second.as_mut(), |(x, y), values, stride| {
                    let left = [left, other_left][x];
                    let mut to = Place { values, stride, add: start > 0, scale: 1.0 };
                    multiply(left, [right, other_right][y], &mut to);
                });
            }
            return &self.norms;
        }
        plain_products(rows, centre, first, second, &mut self.norms);
        &self.norms
    }
}

/// Calls `compute` for the products of each pair of sets: which, where and the numbers from row to row.
fn each_product(
    counts: [usize; 2],
    first: &mut Products<'_>,
    second: Option<&mut Products<'_>>,
    mut compute: impl FnMut((usize, usize), &mut [f32], usize),
) {
    if counts[0] > 0 {
        compute((0, 0), first.values, first.stride);
    }
    if counts[0] > 0 && counts[1] > 0 {
        compute((0, 1), &mut first.values[counts[0]..], first.stride);
    }
    if let Some(second) = second.filter(|_| counts[1] > 0) {
        compute((1, 1), second.values, second.stride);
    }
}

/// As [`RoundedRows::multiply`], on processors without tiles.
fn plain_products(
    rows: [&[f32]; 2],
    centre: &[f32],
    mut first: Products<'_>,
    mut second: Option<Products<'_>>,
    norms: &mut [f32],
) {
    let dim = centre.len();
    let counts = rows.map(|rows| rows.len() / dim);
    let rows = rows.map(|rows| rounded(rows, centre));
    for (norm, row) in norms.iter_mut().zip(rows.iter().flat_map(|rows| rows.chunks_exact(dim))) {
        *norm = simd::dispatch(|| simd::dot(row, row));
    }
    let matrix = |set: usize| Matrix::new(&rows[set], counts[set], dim).with_products(Precision::Bf16);
    each_product(counts, &mut first, second.as_mut(), |(x, y), values, stride| {
        let end = (counts[x] * stride).min(values.len());
        matmul_to_rows(&mut values[..end], stride, matrix(x), matrix(y).t());
    });
}

fn check(Products { values, stride }: &Products<'_>, rows: usize, columns: usize) {
    let enough = rows * columns == 0 || columns <= *stride && values.len() >= (rows - 1) * stride + columns;
    assert!(enough, "{} places for {rows} x {columns} products in rows of {stride}", values.len());
}

/// Sums of rows, in memory that is used for one after the other.
#[derive(Debug, Default)]
pub struct RoundedSums {
    /// Those of a part of the columns.
    sums: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    packed: (Left, Right),
}

impl RoundedSums {
    /// Sums of rows `[rows, dim]` but for their `centre` `[dim]`, times their `weights`, which are rounded too and of which those of one
    /// sum begin `stride` after those of the one before. `take` gets the columns one part after the other: the first one, and the
    /// numbers `[sums, columns]`.
    ///
    /// # Panics
    /// Lengths that do not fit: a mistake of the caller's, never of the data.
    pub fn sum(
        &mut self,
        rows: &[f32],
        centre: &[f32],
        (weights, stride): (&[f32], usize),
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let (dim, sums) = (centre.len(), weights.len() / stride);
        let count = rows.len() / dim;
        assert!(rows.len() == count * dim && weights.len() == sums * stride, "parts of rows of {dim} or {stride}");
        let weights = Matrix::strided(weights, sums, count, stride).with_products(Precision::Bf16);
        #[cfg(target_arch = "x86_64")]
        if Unit::Tiles.is_best() {
            let _span = profile::span("matrix product").flops(2 * sums * count * dim);
            let (left, right) = &mut self.packed;
            left.pack(Unit::Tiles, weights);
            for start in (0..dim).step_by(PART) {
                let part = start..dim.min(start + PART);
                right.pack_centred((rows, dim), part.clone(), centre);
                self.sums.resize(sums * part.len(), 0.0);
                let mut to = Place { values: &mut self.sums, stride: part.len(), add: false, scale: 1.0 };
                multiply(left, right, &mut to);
                take(start, &self.sums);
            }
            return;
        }
        self.sums.resize(sums * dim, 0.0);
        plain_sums(rows, centre, weights, &mut self.sums);
        take(0, &self.sums);
    }
}

/// As [`RoundedSums::sum`], on processors without tiles.
fn plain_sums(rows: &[f32], centre: &[f32], weights: Matrix<'_>, sums: &mut [f32]) {
    let rows = rounded(rows, centre);
    matmul(sums, weights, Matrix::new(&rows, rows.len() / centre.len(), centre.len()), 1.0, Threads::One);
}

/// The rows but for their centre, rounded.
fn rounded(rows: &[f32], centre: &[f32]) -> Vec<f32> {
    let mut numbers = rows.to_vec();
    simd::dispatch(|| {
        for row in numbers.chunks_exact_mut(centre.len()) {
            row.iter_mut().zip(centre).for_each(|(number, centre)| *number -= centre);
        }
    });
    bf16::round(&mut numbers);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        drifting_spec::Stream::new(seed, "rows", 0).normals(count)
    }

    /// What is multiplied, in double precision.
    fn expected(rows: &[f32], centre: &[f32]) -> Vec<f64> {
        let mut left: Vec<f32> =
            rows.iter().zip(centre.iter().cycle()).map(|(number, centre)| number - centre).collect();
        bf16::round(&mut left);
        left.into_iter().map(f64::from).collect()
    }

    fn product(x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).map(|(x, y)| x * y).sum()
    }

    const SIZES: [(usize, usize, usize); 6] =
        [(1, 1, 1), (7, 3, 20), (32, 16, 32), (70, 17, 33), (300, 64, 80), (513, 40, 5)];

    #[test]
    fn products_are_those_of_rounded_rows() {
        // Memory that was used before must not show.
        let mut memory = RoundedRows::default();
        for (dim, rows, more) in SIZES {
            let (x, y, centre) = (numbers(rows * dim, 1), numbers(more * dim, 2), numbers(dim, 3));
            let all = expected(&[&x[..], &y].concat(), &centre);
            let close = |found: f32, expected: f64| {
                let difference = (f64::from(found) - expected).abs();
                assert!(difference < 2e-6 * (dim as f64 + expected.abs()), "{dim} {rows} {more}: {found} {expected}");
            };
            let stride = rows + more + 2;
            for plain in [false, true] {
                let mut out = [rows, more].map(|rows| vec![f32::NAN; rows * stride]);
                let [first, second] = out.each_mut().map(|values| Products { values, stride });
                let norms = if plain {
                    let mut norms = vec![0.0; rows + more];
                    plain_products([&x, &y], &centre, first, Some(second), &mut norms);
                    norms
                } else {
                    memory.multiply([&x, &y], &centre, first, Some(second)).to_vec()
                };
                all.chunks_exact(dim).zip(norms).for_each(|(row, norm)| close(norm, product(row, row)));
                let second = &all[rows * dim..];
                for (out, x, y) in [(&out[0], &all[..rows * dim], &all[..]), (&out[1], second, second)] {
                    for (out, x) in out.chunks_exact(stride).zip(x.chunks_exact(dim)) {
                        let y = y.chunks_exact(dim);
                        assert!(out[y.len()..].iter().all(|number| number.is_nan()));
                        y.zip(out).for_each(|(y, &found)| close(found, product(x, y)));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_wanted_is_not_needed() {
        let x = numbers(3 * 40, 1);
        let mut own = [f32::NAN; 9];
        let out = Products { values: &mut own, stride: 3 };
        assert_eq!(RoundedRows::default().multiply([&x, &[]], &[0.0; 40], out, None).len(), 3);
        assert!(own.iter().all(|product| product.is_finite()), "{own:?}");
        let out = Products { values: &mut [], stride: 3 };
        assert_eq!(RoundedRows::default().multiply([&[], &x], &[0.0; 40], out, None).len(), 3);
    }

    #[test]
    fn sums_are_those_of_rounded_rows_and_weights() {
        let mut memory = RoundedSums::default();
        for (dim, sums, rows) in SIZES {
            let (of, centre, stride) = (numbers(rows * dim, 1), numbers(dim, 3), rows + 3);
            let weights = numbers(sums * stride, 4);
            let mut out = vec![f32::NAN; sums * dim];
            memory.sum(&of, &centre, (&weights, stride), |first, part| {
                let width = part.len() / sums;
                for (out, part) in out.chunks_exact_mut(dim).zip(part.chunks_exact(width)) {
                    out[first..][..width].copy_from_slice(part);
                }
            });
            let mut plain = vec![f32::NAN; sums * dim];
            plain_sums(
                &of,
                &centre,
                Matrix::strided(&weights, sums, rows, stride).with_products(Precision::Bf16),
                &mut plain,
            );
            let (of, weights) = (expected(&of, &centre), expected(&weights, &[0.0]));
            for (at, found) in out.iter().zip(&plain).enumerate() {
                let weights = &weights[at / dim * stride..][..rows];
                let expected: f64 = weights.iter().zip(of.chunks_exact(dim)).map(|(w, row)| w * row[at % dim]).sum();
                // The smallest products are not worth rounding for.
                let plain = if rows.min(sums).min(dim) < 8 { found.0 } else { found.1 };
                for found in [found.0, plain] {
                    let difference = (f64::from(*found) - expected).abs();
                    assert!(difference < 2e-6 * (rows as f64 + 1.0), "{dim} {at}: {found} {expected}");
                }
            }
        }
    }
}
