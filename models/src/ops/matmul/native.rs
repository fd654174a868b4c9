//! Products of packed matrices of bfloat16 numbers.
//!
//! A number of the result is added up in the same order whatever surrounds it.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::Matrix;
use super::kernel;
use super::kernel::Place;
use super::packed::{COLUMNS, LANES, Left, Right, Unit};
use super::tiles::{self, Rows, Tiles};

/// Pairs of the inner dimension that are worked together: a panel of them stays in the nearest cache.
const DEPTH: usize = 128;
/// Numbers of the left matrix before chunks of [`LANES`] pairs.
const CHUNKS: [usize; DEPTH / LANES] = {
    let (mut chunks, mut chunk) = ([0; DEPTH / LANES], 0);
    while chunk < chunks.len() {
        chunks[chunk] = chunk * LANES * 2 * LANES;
        chunk += 1;
    }
    chunks
};
/// Columns of the right matrix that one thread packs together.
const WIDTH: usize = 1024;
/// Rows of the left matrix that are packed together.
const HEIGHT: usize = 192;

thread_local! {
    static MEMORY: RefCell<(Left, Right)> = RefCell::default();
}

/// `out` = a b `scale`, added to what is there if `add`; its rows begin `stride` numbers apart.
pub(super) fn product(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    (a, b): (Matrix<'_>, Matrix<'_>),
    (add, scale): (bool, f32),
) {
    MEMORY.with_borrow_mut(|(left, right)| {
        for column in (0..b.columns).step_by(WIDTH) {
            for inner in (0..b.rows).step_by(2 * DEPTH) {
                right.pack(unit, b.part((inner, column), (2 * DEPTH, WIDTH)), false);
                for row in (0..a.rows).step_by(HEIGHT) {
                    left.pack(unit, a.part((row, inner), (HEIGHT, 2 * DEPTH)));
                    let mut to =
                        Place { values: &mut out[row * stride + column..], stride, add: add || inner > 0, scale };
                    multiply(left, right, &mut to);
                }
            }
        }
    });
}

/// As [`product`], by all threads, which share what is packed of b.
pub(super) fn product_of_all(
    unit: Unit,
    (out, stride): (&mut [f32], usize),
    (a, b): (Matrix<'_>, Matrix<'_>),
    how: (bool, f32),
) {
    // Not borrowed: this thread may take up another product while it waits.
    let mut right = MEMORY.with_borrow_mut(|(_, right)| std::mem::take(right));
    right.pack(unit, b, true);
    let tasks = super::TASKS * rayon::current_num_threads();
    let rows = a.rows.div_ceil(tasks).next_multiple_of(unit.rows());
    out.par_chunks_mut(rows * stride).enumerate().for_each(|(task, out)| {
        product_with(&right, (out, stride), a.part((task * rows, 0), (rows, a.columns)), how);
    });
    MEMORY.with_borrow_mut(|(_, memory)| *memory = right);
}

/// As [`product`], b being packed whole.
pub(super) fn product_with(
    right: &Right,
    (out, stride): (&mut [f32], usize),
    a: Matrix<'_>,
    (add, scale): (bool, f32),
) {
    MEMORY.with_borrow_mut(|(left, _)| {
        for row in (0..a.rows).step_by(HEIGHT) {
            for inner in (0..a.columns).step_by(2 * DEPTH) {
                left.pack(right.unit, a.part((row, inner), (HEIGHT, 2 * DEPTH)));
                let mut to = Place { values: &mut out[row * stride..], stride, add: add || inner > 0, scale };
                multiply_from(left, (right, inner / 2), &mut to);
            }
        }
    });
}

/// `to` = left right.
pub(in crate::ops) fn multiply(left: &Left, right: &Right, to: &mut Place<'_>) {
    multiply_from(left, (right, 0), to);
}

/// `to` = left right, of the right matrix' pairs from `skipped` on.
fn multiply_from(left: &Left, (right, skipped): (&Right, usize), to: &mut Place<'_>) {
    assert!(left.unit == right.unit && skipped + left.pairs <= right.pairs);
    match left.unit {
        Unit::Vectors => multiply_by(left, right, to, |range, row, column, to| {
            let (strip, panel) = (left.strip(row, range.clone()), right.panel(column, skipped, range));
            // SAFETY: nothing is packed so unless the processor has these instructions.
            #[allow(unsafe_code, reason = "the instructions are known to be there")]
            unsafe {
                kernel::tile(strip, panel, to);
            }
        }),
        Unit::Tiles => {
            let tiles = Tiles::new();
            multiply_by(left, right, to, |range, row, column, to| {
                let first = row / LANES * left.pairs + range.start;
                let rows = Rows {
                    lines: &left.lines[first..],
                    row: 1,
                    lower: (row + LANES < left.rows).then_some(left.pairs),
                    chunks: &CHUNKS[..range.len() / LANES],
                };
                tiles.multiply(&rows, right.panel(column, skipped, range), to);
            });
        }
    }
}

/// Goes over `to`, block by block: `compute` writes the products of a range of pairs with the rows and columns from some on.
fn multiply_by(
    left: &Left,
    right: &Right,
    to: &mut Place<'_>,
    mut compute: impl FnMut(Range<usize>, usize, usize, &mut Place<'_>),
) {
    let (unit, stride, scale) = (left.unit, to.stride, to.scale);
    // Tiles do not scale.
    let whole_is_right = unit == Unit::Vectors || scale.to_bits() == 1.0_f32.to_bits();
    for first in (0..left.pairs).step_by(DEPTH) {
        let range = first..left.pairs.min(first + DEPTH);
        let add = to.add || first > 0;
        for column in (0..right.columns).step_by(COLUMNS) {
            let columns = COLUMNS.min(right.columns - column);
            for row in (0..left.rows).step_by(unit.rows()) {
                let rows = unit.rows().min(left.rows - row);
                let values = &mut to.values[row * stride + column..];
                if whole_is_right && rows.is_multiple_of(unit.strip()) && columns == COLUMNS {
                    compute(range.clone(), row, column, &mut Place { values, stride, add, scale });
                    continue;
                }
                let mut whole = [0.0; tiles::ROWS * COLUMNS];
                let mut apart = Place { values: &mut whole, stride: COLUMNS, add: false, scale: 1.0 };
                compute(range.clone(), row, column, &mut apart);
                for (whole, to) in whole.chunks_exact(COLUMNS).zip(values.chunks_mut(stride)).take(rows) {
                    for (to, &sum) in to[..columns].iter_mut().zip(whole) {
                        *to = if add { *to + sum * scale } else { sum * scale };
                    }
                }
            }
        }
    }
}
