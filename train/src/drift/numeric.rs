//! Sums over slices of f32, each with one order of additions.

use drifting_models::ops::lanes::{LaneKernel, Lanes, dispatch_lanes};
use drifting_models::ops::simd::LANES;
use pulp::Simd;

/// Numbers that are added in f32 before the sum goes on in f64.
const BLOCK: usize = 1024;

/// Sum of squares.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    dispatch_lanes(SumOfSquares { values })
}

/// As [`sum_of_squares`], for use in a [`LaneKernel`].
#[inline(always)]
pub(super) fn lane_squares<S: Simd, const N: usize>(simd: S, values: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        let (numbers, rest) = block.as_chunks::<LANES>();
        let mut sums = Lanes::<S, N>::splat(simd, 0.0);
        for numbers in numbers {
            let numbers = Lanes::load(simd, numbers);
            sums = numbers.mul_add(simd, numbers, sums);
        }
        let mut sum = sums.sum(simd);
        for number in rest {
            sum += number * number;
        }
        total += f64::from(sum);
    }
    total
}

/// Sum of the values; short rows are added up often, so the lanes are too, in a tree.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    reduce(values, |value| value)
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

impl LaneKernel for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) -> f64 {
        lane_squares::<S, N>(simd, self.values)
    }
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
            assert_eq!(sum(&values), values.iter().sum::<f32>());
        }
        assert_eq!((inverse(4.0), inverse(0.0)), (0.25, 0.0));
    }
}
