//! Matrices in the layout of the kernel, and products of them.
//!
//! The right matrix is packed in panels of [`COLUMNS`] columns, the left one in tiles of [`ROWS`] rows; both are filled up with
//! zeros. A number of the result is added up in the same order whatever surrounds it.

use std::cell::RefCell;

use super::Matrix;
use super::kernel;
pub(in crate::ops) use super::kernel::Place;

/// Pairs of numbers in a [`Line`].
pub(super) const LANES: usize = 16;
/// Rows of a tile.
pub(super) const ROWS: usize = 12;
/// Columns of a tile.
pub(super) const COLUMNS: usize = 32;
/// Lines that hold a pair of each column of a panel.
const PANEL: usize = COLUMNS / LANES;
/// Pairs of the inner dimension that are worked together: a panel of them stays in the nearest cache.
const DEPTH: usize = 128;
/// Columns of the right matrix that are packed together.
const WIDTH: usize = 1024;
/// Rows of the left matrix that are packed together.
const HEIGHT: usize = 16 * ROWS;

/// Pairs of rounded numbers that fill a vector.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; LANES]);

/// Part of a matrix that stands on the right, packed: `[panels, pairs, PANEL]`.
#[derive(Clone, Debug, Default)]
pub(in crate::ops) struct Right {
    lines: Vec<Line>,
    pairs: usize,
    columns: usize,
}

/// Rows of a matrix that stands on the left, packed: `[tiles, pairs]`.
#[derive(Clone, Debug, Default)]
pub(in crate::ops) struct Left {
    lines: Vec<Line>,
    pairs: usize,
    rows: usize,
}

thread_local! {
    static MEMORY: RefCell<(Left, Right)> = RefCell::default();
}

/// `out` = a b `scale`, added to what is there if `add`; its rows begin `stride` numbers apart.
pub(super) fn product((out, stride): (&mut [f32], usize), (a, b): (Matrix<'_>, Matrix<'_>), (add, scale): (bool, f32)) {
    MEMORY.with_borrow_mut(|(left, right)| {
        for column in (0..b.columns).step_by(WIDTH) {
            for inner in (0..b.rows).step_by(2 * DEPTH) {
                right.pack(b.part((inner, column), (2 * DEPTH, WIDTH)));
                for row in (0..a.rows).step_by(HEIGHT) {
                    left.pack(a.part((row, inner), (HEIGHT, 2 * DEPTH)));
                    let mut to =
                        Place { values: &mut out[row * stride + column..], stride, add: add || inner > 0, scale };
                    multiply(left, right, &mut to);
                }
            }
        }
    });
}

/// `to` = left right.
pub(in crate::ops) fn multiply(left: &Left, right: &Right, to: &mut Place<'_>) {
    let pairs = left.pairs.min(right.pairs);
    for first in (0..pairs).step_by(DEPTH) {
        let add = to.add || first > 0;
        let range = first..pairs.min(first + DEPTH);
        for column in (0..right.columns).step_by(COLUMNS) {
            let panel = &right.panel(column)[range.start * PANEL..range.end * PANEL];
            let columns = COLUMNS.min(right.columns - column);
            for row in (0..left.rows).step_by(ROWS) {
                let tile = &left.tile(row)[range.clone()];
                let rows = ROWS.min(left.rows - row);
                let (stride, scale) = (to.stride, to.scale);
                let values = &mut to.values[row * stride + column..];
                if rows == ROWS && columns == COLUMNS {
                    compute(tile, panel, &mut Place { values, stride, add, scale });
                    continue;
                }
                let mut whole = [0.0; ROWS * COLUMNS];
                compute(tile, panel, &mut Place { values: &mut whole, stride: COLUMNS, add: false, scale });
                for (whole, to) in whole.chunks_exact(COLUMNS).zip(values.chunks_mut(stride)).take(rows) {
                    for (to, &sum) in to[..columns].iter_mut().zip(whole) {
                        *to = if add { *to + sum } else { sum };
                    }
                }
            }
        }
    }
}

/// One tile.
fn compute(left: &[Line], panel: &[Line], to: &mut Place<'_>) {
    // SAFETY: nothing is packed unless the processor has these instructions.
    #[allow(unsafe_code, reason = "the instructions are known to be there")]
    unsafe {
        kernel::tile(left, panel, to);
    }
}

impl Right {
    /// A packed matrix.
    pub(in crate::ops) fn new(b: Matrix<'_>) -> Self {
        let mut right = Self::default();
        right.pack(b);
        right
    }

    /// Packs a matrix.
    pub(in crate::ops) fn pack(&mut self, b: Matrix<'_>) {
        assert!(kernel::is_there(), "bfloat16 on a processor without it");
        (self.pairs, self.columns) = (b.rows.div_ceil(2), b.columns);
        let length = self.pairs * PANEL;
        self.lines.resize(b.columns.div_ceil(COLUMNS) * length, Line::default());
        if length == 0 {
            return;
        }
        for (panel, lines) in self.lines.chunks_exact_mut(length).enumerate() {
            // SAFETY: the instructions are there, as was asserted.
            #[allow(unsafe_code, reason = "the instructions are known to be there")]
            unsafe {
                for half in 0..PANEL {
                    pack_lines(b, (panel * COLUMNS + half * LANES, LANES), &mut lines[half..], PANEL);
                }
            }
        }
    }

    /// The panel that begins with a column.
    fn panel(&self, column: usize) -> &[Line] {
        let length = self.pairs * PANEL;
        &self.lines[column / COLUMNS * length..][..length]
    }
}

impl Left {
    /// Packs a matrix.
    pub(in crate::ops) fn pack(&mut self, a: Matrix<'_>) {
        assert!(kernel::is_there(), "bfloat16 on a processor without it");
        (self.pairs, self.rows) = (a.columns.div_ceil(2), a.rows);
        self.lines.resize(a.rows.div_ceil(ROWS) * self.pairs, Line::default());
        if self.pairs == 0 {
            return;
        }
        for (tile, lines) in self.lines.chunks_exact_mut(self.pairs).enumerate() {
            // SAFETY: the instructions are there, as was asserted.
            #[allow(unsafe_code, reason = "the instructions are known to be there")]
            unsafe {
                pack_lines(a.t(), (tile * ROWS, ROWS), lines, 1);
            }
        }
    }

    /// The tile that begins with a row.
    fn tile(&self, row: usize) -> &[Line] {
        &self.lines[row / ROWS * self.pairs..][..self.pairs]
    }
}

/// Packs up to [`LANES`] columns from `first` on, a pair of each in every `step`th line.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_lines(b: Matrix<'_>, (first, most): (usize, usize), lines: &mut [Line], step: usize) {
    let start = first.min(b.columns);
    let columns = most.min(b.columns - start);
    if b.column_stride == 1 {
        for (pair, line) in lines.iter_mut().step_by(step).enumerate() {
            let row = |row: usize| {
                let there = if row < b.rows { columns } else { 0 };
                &b.values[if there > 0 { row * b.row_stride + start } else { 0 }..][..there]
            };
            kernel::interleave(row(2 * pair), row(2 * pair + 1), line);
        }
    } else {
        for (block, lines) in lines.chunks_mut(LANES * step).enumerate() {
            let inner = 2 * LANES * block;
            let count = (2 * LANES).min(b.rows - inner);
            let mut rows: [&[f32]; LANES] = [&[]; LANES];
            for (column, row) in rows.iter_mut().enumerate().take(columns) {
                *row = &b.values[(start + column) * b.column_stride + inner..][..count];
            }
            kernel::turn(rows, lines, step);
        }
    }
}
