//! Matrices in the layouts of processors that multiply bfloat16 numbers.
//!
//! The right matrix is packed in panels of [`COLUMNS`] columns, the left one in strips of rows; both are filled up with zeros.

use std::ops::Range;

use rayon::prelude::*;

use super::Matrix;
use super::kernel;
use super::tiles;

/// Pairs of numbers in a [`Line`].
pub(in crate::ops) const LANES: usize = 16;
/// Rows that vectors take together.
pub(super) const ROWS: usize = 12;
/// Columns that either unit takes together.
pub(in crate::ops) const COLUMNS: usize = 32;
/// Lines that hold a pair of each column of a panel.
const PANEL: usize = COLUMNS / LANES;

/// Pairs of rounded numbers that fill a vector.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(in crate::ops) struct Line(pub(super) [u32; LANES]);

/// What multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::ops) enum Unit {
    /// AVX-512, pair by pair.
    #[default]
    Vectors,
    /// AMX.
    Tiles,
}

impl Unit {
    /// The fastest one of this processor; nothing where single precision is faster.
    pub(in crate::ops) fn best() -> Option<Self> {
        Self::all().find(|unit| *unit == Self::Tiles || kernel::is_fast())
    }

    /// Whether it is the fastest one of this processor.
    pub(in crate::ops) fn is_best(self) -> bool {
        Self::best() == Some(self)
    }

    /// Those of this processor.
    pub(in crate::ops) fn all() -> impl Iterator<Item = Self> {
        let tiles = tiles::are_there().then_some(Self::Tiles);
        tiles.into_iter().chain(kernel::is_there().then_some(Self::Vectors))
    }

    /// Rows that are taken together.
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Vectors => ROWS,
            Self::Tiles => tiles::ROWS,
        }
    }

    /// Rows that are packed together.
    pub(super) fn strip(self) -> usize {
        match self {
            Self::Vectors => ROWS,
            Self::Tiles => LANES,
        }
    }

    /// Pairs that are packed of so many numbers.
    fn pairs(self, numbers: usize) -> usize {
        match self {
            Self::Vectors => numbers.div_ceil(2),
            Self::Tiles => numbers.div_ceil(2).next_multiple_of(LANES),
        }
    }
}

/// Part of a matrix that stands on the right, packed: `[panels, pairs, PANEL]`.
#[derive(Clone, Debug, Default)]
pub(in crate::ops) struct Right {
    pub(super) unit: Unit,
    pub(super) lines: Vec<Line>,
    pub(super) pairs: usize,
    pub(super) columns: usize,
}

/// Rows of a matrix that stands on the left, packed: `[strips, pairs]`, a line for a pair of all rows of a strip; for tiles
/// `[strips, pairs / LANES, LANES]`, a line for [`LANES`] pairs of a row.
#[derive(Clone, Debug, Default)]
pub(in crate::ops) struct Left {
    pub(super) unit: Unit,
    pub(super) lines: Vec<Line>,
    pub(super) pairs: usize,
    pub(super) rows: usize,
}

impl Right {
    /// A packed matrix.
    pub(in crate::ops) fn new(unit: Unit, b: Matrix<'_>) -> Self {
        let mut right = Self::default();
        right.pack(unit, b, false);
        right
    }

    /// As [`new`](Self::new), by all threads.
    pub(super) fn by_all(unit: Unit, b: Matrix<'_>) -> Self {
        let mut right = Self::default();
        right.pack(unit, b, true);
        right
    }

    /// Packs a matrix, by all threads if it is `shared`.
    pub(super) fn pack(&mut self, unit: Unit, b: Matrix<'_>, shared: bool) {
        (self.unit, self.pairs, self.columns) = (unit, unit.pairs(b.rows), b.columns);
        let length = self.pairs * PANEL;
        let lines = some(&mut self.lines, b.columns.div_ceil(COLUMNS) * length);
        if length == 0 {
            return;
        }
        let pack = |(panel, lines): (usize, &mut [Line])| {
            for half in 0..PANEL {
                // SAFETY: there is no unit unless the processor has the instructions.
                #[allow(unsafe_code, reason = "the instructions are known to be there")]
                unsafe {
                    pack_lines(b, (panel * COLUMNS + half * LANES, LANES), &mut lines[half..], PANEL);
                }
            }
        };
        match shared {
            true => lines.par_chunks_exact_mut(length).enumerate().for_each(pack),
            false => lines.chunks_exact_mut(length).enumerate().for_each(pack),
        }
    }

    /// Packs `rows` rows of `columns` numbers for tiles, an empty one being of zeros.
    pub(in crate::ops) fn pack_rows<'a>(&mut self, rows: usize, columns: usize, row: impl Fn(usize) -> &'a [f32]) {
        assert!(tiles::are_there(), "bfloat16 on a processor without it");
        (self.unit, self.pairs, self.columns) = (Unit::Tiles, Unit::Tiles.pairs(rows), columns);
        let length = self.pairs * PANEL;
        let panels = some(&mut self.lines, columns.div_ceil(COLUMNS) * length).chunks_exact_mut(length.max(1));
        for (panel, lines) in panels.enumerate() {
            for half in 0..PANEL {
                let first = panel * COLUMNS + half * LANES;
                let part = |at: usize| {
                    let row = if at < rows { row(at) } else { &[] };
                    &row[first.min(row.len())..(first + LANES).min(row.len())]
                };
                // SAFETY: the instructions are there, as was asserted.
                #[allow(unsafe_code, reason = "the instructions are known to be there")]
                unsafe {
                    pack_pairs(part, &mut lines[half..], PANEL);
                }
            }
        }
    }

    /// Packs the numbers `part` of rows of `dim` numbers for tiles, but for their `centre`.
    pub(in crate::ops) fn pack_centred(&mut self, (rows, dim): (&[f32], usize), part: Range<usize>, centre: &[f32]) {
        assert!(tiles::are_there(), "bfloat16 on a processor without it");
        let count = rows.len() / dim;
        (self.unit, self.pairs, self.columns) = (Unit::Tiles, Unit::Tiles.pairs(count), part.len());
        let length = self.pairs * PANEL;
        let lines = some(&mut self.lines, part.len().div_ceil(COLUMNS) * length);
        for pair in 0..self.pairs {
            let row = |row: usize| if row < count { &rows[row * dim..][part.clone()] } else { &[] };
            let (first, second) = (row(2 * pair), row(2 * pair + 1));
            // SAFETY: the instructions are there, as was asserted.
            #[allow(unsafe_code, reason = "the instructions are known to be there")]
            unsafe {
                kernel::centred_pairs(first, second, &centre[part.clone()], &mut lines[pair * PANEL..], length, PANEL);
            }
        }
    }

    /// Some pairs of the panel that begins with a column, counted from the pair `skipped` on.
    pub(in crate::ops) fn panel(&self, column: usize, skipped: usize, range: Range<usize>) -> &[Line] {
        let length = self.pairs * PANEL;
        &self.lines[column / COLUMNS * length..][..length]
            [(skipped + range.start) * PANEL..(skipped + range.end) * PANEL]
    }
}

impl Left {
    /// Packs a matrix.
    pub(in crate::ops) fn pack(&mut self, unit: Unit, a: Matrix<'_>) {
        (self.unit, self.pairs, self.rows) = (unit, unit.pairs(a.columns), a.rows);
        let lines = some(&mut self.lines, a.rows.div_ceil(unit.strip()) * self.pairs);
        if self.pairs == 0 {
            return;
        }
        for (strip, lines) in lines.chunks_exact_mut(self.pairs).enumerate() {
            let first = strip * unit.strip();
            // SAFETY: there is no unit unless the processor has the instructions.
            #[allow(unsafe_code, reason = "the instructions are known to be there")]
            unsafe {
                match unit {
                    Unit::Vectors => pack_lines(a.t(), (first, ROWS), lines, 1),
                    Unit::Tiles => pack_rows(a, first, lines),
                }
            }
        }
    }

    /// Packs the numbers `part` of rows of `dim` numbers for tiles, but for their `centre`, and their transpose as the right matrix;
    /// adds the squares of each row to its norm.
    pub(in crate::ops) fn pack_centred(
        &mut self,
        (rows, dim): (&[f32], usize),
        part: Range<usize>,
        centre: &[f32],
        right: &mut Right,
        norms: &mut [f32],
    ) {
        assert!(tiles::are_there(), "bfloat16 on a processor without it");
        let (count, pairs) = (rows.len() / dim, Unit::Tiles.pairs(part.len()));
        (self.unit, self.pairs, self.rows) = (Unit::Tiles, pairs, count);
        (right.unit, right.pairs, right.columns) = (Unit::Tiles, pairs, count);
        let lines = some(&mut self.lines, count.div_ceil(LANES) * pairs);
        let turned = some(&mut right.lines, count.div_ceil(COLUMNS) * pairs * PANEL);
        for ((strip, lines), norms) in lines.chunks_exact_mut(pairs).enumerate().zip(norms.chunks_mut(LANES)) {
            let turned = &mut turned[strip / PANEL * pairs * PANEL + strip % PANEL..];
            let mut parts: [&[f32]; LANES] = [&[]; LANES];
            for (numbers, row) in parts.iter_mut().zip(rows.chunks_exact(dim).skip(strip * LANES)) {
                *numbers = &row[part.clone()];
            }
            // SAFETY: the instructions are there, as was asserted.
            #[allow(unsafe_code, reason = "the instructions are known to be there")]
            let squares = unsafe { kernel::centred(parts, &centre[part.clone()], lines, (turned, PANEL)) };
            norms.iter_mut().zip(squares).for_each(|(norm, squares)| *norm += squares);
        }
    }

    /// Some pairs of the strip that begins with a row.
    pub(super) fn strip(&self, row: usize, range: Range<usize>) -> &[Line] {
        &self.lines[row / self.unit.strip() * self.pairs..][..self.pairs][range]
    }
}

/// As many lines of `memory`, whatever they were before.
pub(in crate::ops) fn some(memory: &mut Vec<Line>, len: usize) -> &mut [Line] {
    if memory.len() < len {
        memory.resize(len, Line::default());
    }
    &mut memory[..len]
}

/// Packs rows of up to [`LANES`] numbers, two of them in every `step`th line.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_pairs<'a>(row: impl Fn(usize) -> &'a [f32], lines: &mut [Line], step: usize) {
    for (pair, line) in lines.iter_mut().step_by(step).enumerate() {
        kernel::interleave(row(2 * pair), row(2 * pair + 1), line);
    }
}

/// Packs up to [`LANES`] columns from `first` on, a pair of each in every `step`th line.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_lines(b: Matrix<'_>, (first, most): (usize, usize), lines: &mut [Line], step: usize) {
    let start = first.min(b.columns);
    let columns = most.min(b.columns - start);
    if b.column_stride == 1 {
        let row = |row: usize| {
            let there = if row < b.rows { columns } else { 0 };
            &b.values[if there > 0 { row * b.row_stride + start } else { 0 }..][..there]
        };
        pack_pairs(row, lines, step);
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

/// Packs up to [`LANES`] rows from `first` on, [`LANES`] pairs of each after the other.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_rows(a: Matrix<'_>, first: usize, lines: &mut [Line]) {
    let rows = LANES.min(a.rows - first);
    for (chunk, lines) in lines.chunks_exact_mut(LANES).enumerate() {
        let inner = 2 * LANES * chunk;
        if a.column_stride == 1 {
            let count = (2 * LANES).min(a.columns - inner);
            for (row, line) in lines.iter_mut().enumerate() {
                let count = if row < rows { count } else { 0 };
                let values = &a.values[if count > 0 { (first + row) * a.row_stride + inner } else { 0 }..][..count];
                kernel::line(values, line);
            }
        } else {
            let column = |column: usize| match column < a.columns {
                true => &a.values[column * a.column_stride + first..][..rows],
                false => &[],
            };
            let pairs = std::array::from_fn(|pair| [column(inner + 2 * pair), column(inner + 2 * pair + 1)]);
            kernel::turn_columns(pairs, lines, 1);
        }
    }
}

/// Rounds numbers, [`LANES`] pairs to a line.
pub(in crate::ops) fn round(values: &[f32], lines: &mut [Line]) {
    assert!(kernel::is_there(), "bfloat16 on a processor without it");
    for (values, line) in values.chunks(2 * LANES).zip(lines) {
        // SAFETY: the instructions are there, as was asserted.
        #[allow(unsafe_code, reason = "the instructions are known to be there")]
        unsafe {
            kernel::line(values, line);
        }
    }
}

/// Rounds [`LANES`] numbers of each of [`LANES`] pairs of pixels, and turns them: every `step`th line of `to` holds all pairs of a
/// number.
pub(in crate::ops) fn turn<'a>(pixel: impl Fn(usize) -> &'a [f32], to: &mut [Line], step: usize) {
    assert!(kernel::is_there(), "bfloat16 on a processor without it");
    let pairs = std::array::from_fn(|pair| [pixel(2 * pair), pixel(2 * pair + 1)]);
    // SAFETY: the instructions are there, as was asserted.
    #[allow(unsafe_code, reason = "the instructions are known to be there")]
    unsafe {
        kernel::turn_columns(pairs, to, step);
    }
}
