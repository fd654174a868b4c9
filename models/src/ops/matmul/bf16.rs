//! Numbers of bfloat16: single precision with 8 significant bits, what matrix units multiply.

use super::Matrix;

/// Rounds each number to the nearest one of bfloat16, of two as near to the even one.
pub(in crate::ops) fn round(values: &mut [f32]) {
    crate::ops::simd::dispatch(|| {
        for value in values {
            let bits = value.to_bits();
            let even = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
            *value = f32::from_bits(if value.is_nan() { bits } else { even & 0xffff_0000 });
        }
    });
}

impl Matrix<'_> {
    /// Its numbers, rounded, row-major.
    pub(super) fn rounded(self) -> Vec<f32> {
        let at = |i| self.values[i / self.columns * self.row_stride + i % self.columns * self.column_stride];
        let mut values: Vec<f32> = (0..self.rows * self.columns).map(at).collect();
        round(&mut values);
        values
    }

    /// The part from row `row` and column `column` on, so large at most.
    pub(super) fn part(self, (row, column): (usize, usize), (rows, columns): (usize, usize)) -> Self {
        Self {
            values: &self.values[row * self.row_stride + column * self.column_stride..],
            rows: rows.min(self.rows - row),
            columns: columns.min(self.columns - column),
            ..self
        }
    }
}
