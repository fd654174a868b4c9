//! Sums over slices of f32, each with one order of additions.

use drifting_models::ops::simd::{Kernel, LANES, dispatch_kernel};

/// Numbers that are added in f32 before the sum goes on in f64.
const BLOCK: usize = 1024;

/// Sum of squares.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    dispatch_kernel(SumOfSquares { values })
}

/// As [`sum_of_squares`], for use in a [`Kernel`].
#[inline(always)]
pub(super) fn squares(values: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        total += f64::from(square_sum(block));
    }
    total
}

/// Sum of the values; short rows are added up often, so the lanes are too, in a tree.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    reduce(values, |value| value)
}

/// Sum of the squares of a short row.
#[inline(always)]
pub(super) fn square_sum(values: &[f32]) -> f32 {
    reduce(values, |value| value * value)
}

/// Sum of the absolute values.
#[inline(always)]
pub(super) fn absolute_sum(values: &[f32]) -> f32 {
    reduce(values, f32::abs)
}

/// Inner product, added up in f64.
#[inline(always)]
pub(super) fn dot(x: &[f32], y: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    for (x, y) in x.chunks(LANES).zip(y.chunks(LANES)) {
        for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += f64::from(x) * f64::from(y);
        }
    }
    let mut total = 0.0;
    for lane in lanes {
        total += lane;
    }
    total
}

/// Least value; infinity when there is none.
#[inline(always)]
pub(super) fn min(values: &[f32]) -> f32 {
    let mut lanes = [f32::INFINITY; LANES];
    for chunk in values.chunks(LANES) {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value < *lane { value } else { *lane };
        }
    }
    let mut least = f32::INFINITY;
    for lane in lanes {
        least = if lane < least { lane } else { least };
    }
    least
}

/// Sum of (x - y)^2.
#[inline(always)]
pub(super) fn squared_difference(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (x, y) in x.chunks(LANES).zip(y.chunks(LANES)) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += (x - y) * (x - y);
        }
    }
    tree(lanes)
}

#[inline(always)]
fn reduce(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &value)| *lane += f(value));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, &value)| *lane += f(value));
    tree(lanes)
}

#[inline(always)]
fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        let (low, high) = lanes.split_at_mut(width);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
        width /= 2;
    }
    lanes[0]
}

struct SumOfSquares<'a> {
    values: &'a [f32],
}

impl Kernel for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        squares(self.values)
    }
}

/// e^x for x <= 0 with a relative error below 2e-7; arguments under -87 give about 1e-38. With fused multiplications and
/// without the case of large results, it takes half the instructions of [`exp`](drifting_models::ops::simd::exp).
#[inline(always)]
pub(super) fn exp_of_negative(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.max(-87.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_1e-4f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, coefficient);
    }
    let mantissa = p.mul_add(r * r, r) + 1.0;
    // The lowest bits of `shifted` are n; those above leave on the left.
    mantissa * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
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
    fn exp_of_negative_numbers_is_accurate() {
        for i in 0..87_000 {
            let x = -i as f32 * 1e-3;
            let (found, expected) = (f64::from(exp_of_negative(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2e-7, "{x}: {found} {expected}");
        }
        assert!(exp_of_negative(-1e9) < 2e-38 && exp_of_negative(0.0) == 1.0);
    }

    #[test]
    fn every_number_is_squared_once() {
        for count in [0, 1, 17, 1024, 3000] {
            let values: Vec<f32> = (0..count).map(|i| ((i * 37) % 11) as f32 - 5.0).collect();
            assert_eq!(sum_of_squares(&values), values.iter().map(|&value| f64::from(value * value)).sum::<f64>());
            assert_eq!(sum(&values), values.iter().sum::<f32>());
        }
        assert_eq!((inverse(4.0), inverse(0.0)), (0.25, 0.0));
    }
}
