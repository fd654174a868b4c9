//! Loops that use the widest vector instructions of the processor at hand.
//!
//! Sums run in [`LANES`] fixed lanes, so that the compiler may vectorise them and every processor adds in the same order.

/// Partial sums of a reduction.
pub const LANES: usize = 16;

/// Runs `task` compiled for the widest vector instructions that this processor has.
#[inline(always)]
pub fn dispatch<R>(task: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(task)
}

/// A loop for [`dispatch_kernel`].
pub trait Kernel {
    /// What it computes.
    type Output;
    /// Computes it. Implementations must be `#[inline(always)]`, and so must what they call.
    fn run(self) -> Self::Output;
}

/// As [`dispatch`], for loops of some size: the compiler leaves a closure beyond a certain size outside of what is compiled
/// for the processor at hand, so that it runs with the instructions of the oldest one. A [`Kernel`] is never left outside.
#[inline(always)]
pub fn dispatch_kernel<K: Kernel>(kernel: K) -> K::Output {
    struct Task<K>(K);
    impl<K: Kernel> pulp::WithSimd for Task<K> {
        type Output = K::Output;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> K::Output {
            self.0.run()
        }
    }
    pulp::Arch::new().dispatch(Task(kernel))
}

/// The sum of all lanes, neighbours last.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sets of lanes that add by turns, so that no addition waits for the one before.
const SETS: usize = 4;

/// Sum of the values.
#[inline(always)]
#[must_use]
pub fn sum(values: &[f32]) -> f32 {
    let (blocks, rest) = values.as_chunks::<{ SETS * LANES }>();
    let mut sets = [[0.0f32; LANES]; SETS];
    for block in blocks {
        let (chunks, _) = block.as_chunks::<LANES>();
        for k in 0..SETS {
            for i in 0..LANES {
                sets[k][i] += chunks[k][i];
            }
        }
    }
    let mut lanes = joined(sets);
    let (chunks, rest) = rest.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    total(with_rest(lanes, rest.iter().copied()))
}

#[inline(always)]
fn joined(sets: [[f32; LANES]; SETS]) -> [f32; LANES] {
    let mut lanes = [0.0f32; LANES];
    for i in 0..LANES {
        lanes[i] = (sets[0][i] + sets[1][i]) + (sets[2][i] + sets[3][i]);
    }
    lanes
}

/// Adds the numbers after the last whole chunk. They stand by themselves first, so that the lanes stay in registers.
#[inline(always)]
fn with_rest(mut lanes: [f32; LANES], rest: impl ExactSizeIterator<Item = f32>) -> [f32; LANES] {
    if rest.len() > 0 {
        let mut last = [0.0f32; LANES];
        for (last, value) in last.iter_mut().zip(rest) {
            *last = value;
        }
        for i in 0..LANES {
            lanes[i] += last[i];
        }
    }
    lanes
}

/// Inner product; `b` must be at least as long as `a`.
#[inline(always)]
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    products(a, 0.0, b, 0.0)
}

/// Inner product of `a` with (b - centre); `b` must be at least as long as `a`.
#[inline(always)]
#[must_use]
pub fn dot_about(a: &[f32], b: &[f32], centre: f32) -> f32 {
    products(a, 0.0, b, centre)
}

/// Sum of (value - centre)^2.
#[inline(always)]
#[must_use]
pub fn squares_about(values: &[f32], centre: f32) -> f32 {
    products(values, centre, values, centre)
}

/// Inner product of (a - p) with (b - q).
#[inline(always)]
fn products(a: &[f32], p: f32, b: &[f32], q: f32) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<{ SETS * LANES }>();
    let (b_blocks, b_rest) = b[..a.len()].as_chunks::<{ SETS * LANES }>();
    let mut sets = [[0.0f32; LANES]; SETS];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        let ((a, _), (b, _)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for k in 0..SETS {
            for i in 0..LANES {
                sets[k][i] += (a[k][i] - p) * (b[k][i] - q);
            }
        }
    }
    let mut lanes = joined(sets);
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a_rest.as_chunks::<LANES>(), b_rest.as_chunks::<LANES>());
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += (a[i] - p) * (b[i] - q);
        }
    }
    total(with_rest(lanes, a_rest.iter().zip(b_rest).map(|(a, b)| (a - p) * (b - q))))
}

/// Largest value; negative infinity when there is none.
#[inline(always)]
#[must_use]
pub fn max(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = larger(chunk[i], lanes[i]);
        }
    }
    rest.iter().fold(largest(lanes), |most, &value| larger(value, most))
}

#[inline(always)]
fn largest(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = larger(lanes[i + half], lanes[i]);
        }
        half /= 2;
    }
    lanes[0]
}

/// `b` where one of them is no number.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Replaces each value by e^(value - largest of them) and returns the sum of these, which is 0 only where there is none.
#[inline(always)]
pub fn exponentials(values: &mut [f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let mut lanes = last;
    for chunk in chunks.iter() {
        for i in 0..LANES {
            lanes[i] = larger(chunk[i], lanes[i]);
        }
    }
    let largest = largest(lanes);
    // Beyond the end there is about 1e-38 each, which no sum of at least 1 feels.
    let mut sums = [0.0f32; LANES];
    for i in 0..LANES {
        last[i] = exp_within(larger(last[i] - largest, -87.0));
        sums[i] += last[i];
    }
    for chunk in chunks {
        for i in 0..LANES {
            chunk[i] = exp_within(larger(chunk[i] - largest, -87.0));
            sums[i] += chunk[i];
        }
    }
    rest.copy_from_slice(&last[..rest.len()]);
    total(sums)
}

/// Softmax of one row in place.
#[inline(always)]
pub fn softmax(row: &mut [f32]) {
    let sum = exponentials(row);
    scale(row, 1.0 / sum);
}

/// Multiplies each value by `factor`.
#[inline(always)]
pub fn scale(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}

/// e^x with a relative error below 2e-7 for x between -87 and 88: half the instructions of [`exp`], with fused multiplications.
#[inline(always)]
#[must_use]
pub fn exp_within(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    let mantissa = p.mul_add(r * r, r) + 1.0;
    // The lowest bits of `shifted` are n; those above leave on the left.
    f32::from_bits(mantissa.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// e^x with a relative error below 2e-7, without branches; arguments under -87 give 0 or a number below 2e-38.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.7);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let mantissa = p * r * r + r + 1.0;
    // Two factors, since 2^128 is no f32. A cast of n would saturate, for which there is no vector instruction.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    mantissa * power(half) * power(n - half)
}

/// 1 / (1 + e^-x).
#[inline(always)]
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp_within((-x).clamp(-87.0, 87.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_range() {
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2e-7, "{x}: {found} {expected}");
        }
        assert!(exp(-1e9) < 2e-38);
        assert_eq!(exp(0.0), 1.0);
        for i in -87_000..=88_000 {
            let x = i as f32 * 1e-3;
            let (found, expected) = (f64::from(exp_within(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2e-7, "{x}: {found} {expected}");
        }
        assert_eq!(exp_within(0.0), 1.0);
    }

    #[test]
    fn sigmoid_ends_at_0_and_1() {
        for (x, expected) in [(0.0, 0.5), (200.0, 1.0), (f32::INFINITY, 1.0), (2.0, 0.880_797_1)] {
            assert!((sigmoid(x) - expected).abs() < 1e-7);
            assert!((sigmoid(-x) - (1.0 - expected)).abs() < 1e-7);
        }
        assert!(sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn softmax_sums_to_one() {
        for n in [1, 15, 16, 17, 53, 272] {
            let logits: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 * 0.0625 - 2.0).collect();
            let mut found = logits.clone();
            dispatch(|| softmax(&mut found));
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            for (found, &logit) in found.iter().zip(&logits) {
                let expected = f64::from(logit).exp() / total;
                assert!((f64::from(*found) / expected - 1.0).abs() < 1e-6, "{found} {expected}");
            }
        }
        softmax(&mut []);
    }

    #[test]
    fn reductions_include_every_element() {
        for n in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(dispatch(|| sum(&values)), (0..n).sum::<i32>() as f32);
            assert_eq!(dot(&values, &values), (0..n).map(|i| i * i).sum::<i32>() as f32);
            assert_eq!(squares_about(&values, 1.0), (0..n).map(|i| (i - 1) * (i - 1)).sum::<i32>() as f32);
            assert_eq!(max(&values), if n == 0 { f32::NEG_INFINITY } else { (n - 1) as f32 });
        }
    }
}
