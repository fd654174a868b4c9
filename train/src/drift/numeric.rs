//! Sums over slices of f32, each with one order of additions.

use drifting_models::ops::simd::{dispatch_call, dot};

/// Numbers that are added in f32 before the sum goes on in f64.
const BLOCK: usize = 1024;

/// Sum of squares.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    dispatch_call(sum_of_blocks, values)
}

#[inline(always)]
fn sum_of_blocks(values: &[f32]) -> f64 {
    values.chunks(BLOCK).map(|block| f64::from(dot(block, block))).sum()
}

/// 1 / x, or 0 where x is 0: the share of nothing is nothing.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    if x > 0.0 { 1.0 / x } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_squared_once() {
        for count in [0, 1, 17, 1024, 3000] {
            let values: Vec<f32> = (0..count).map(|i| ((i * 37) % 11) as f32 - 5.0).collect();
            assert_eq!(sum_of_squares(&values), values.iter().map(|&value| f64::from(value * value)).sum::<f64>());
        }
        assert_eq!((inverse(4.0), inverse(0.0)), (0.25, 0.0));
    }
}
