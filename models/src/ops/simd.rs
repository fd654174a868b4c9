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

/// Sum of `f(i)` over 0..`n`, in lanes.
#[inline(always)]
fn reduce(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += f(start + lane);
        }
    }
    for i in whole..n {
        lanes[i - whole] += f(i);
    }
    lanes.iter().sum()
}

/// Sum of the values.
#[inline(always)]
#[must_use]
pub fn sum(values: &[f32]) -> f32 {
    reduce(values.len(), |i| values[i])
}

/// Inner product; `b` must be at least as long as `a`.
#[inline(always)]
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    reduce(a.len(), |i| a[i] * b[i])
}

/// Largest value; negative infinity when there is none.
#[inline(always)]
#[must_use]
pub fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    rest.iter().chain(&lanes).copied().fold(f32::NEG_INFINITY, f32::max)
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
    1.0 / (1.0 + exp(-x))
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
    }

    #[test]
    fn reductions_include_every_element() {
        for n in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(dispatch(|| sum(&values)), (0..n).sum::<i32>() as f32);
            assert_eq!(dot(&values, &values), (0..n).map(|i| i * i).sum::<i32>() as f32);
            assert_eq!(max(&values), if n == 0 { f32::NEG_INFINITY } else { (n - 1) as f32 });
        }
    }
}
