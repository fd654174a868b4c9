//! Sixteen numbers at a time, in whatever vectors the processor has.
//!
//! For loops over short rows, of which a compiler leaves a good part outside of its vectors. All processors add in the same
//! order.

use pulp::{Simd, WithSimd};

use super::simd::LANES;

/// A loop for [`dispatch_lanes`]. Implementations must be `#[inline(always)]`, and so must what they call; values of type
/// [`Lanes`] must not be captured by closures.
pub trait LaneKernel {
    /// What it computes.
    type Output;
    /// Computes it with [`LANES`] numbers in `N` vectors.
    fn run<S: Simd, const N: usize>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` with the widest vector instructions that this processor has.
#[inline(always)]
pub fn dispatch_lanes<K: LaneKernel>(kernel: K) -> K::Output {
    struct Task<K>(K);
    impl<K: LaneKernel> WithSimd for Task<K> {
        type Output = K::Output;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> K::Output {
            match S::F32_LANES {
                16 => self.0.run::<S, 1>(simd),
                8 => self.0.run::<S, 2>(simd),
                4 => self.0.run::<S, 4>(simd),
                _ => self.0.run::<S, LANES>(simd),
            }
        }
    }
    pulp::Arch::new().dispatch(Task(kernel))
}

/// [`LANES`] numbers.
#[derive(Clone, Copy, Debug)]
pub struct Lanes<S: Simd, const N: usize>([S::f32s; N]);

/// Both operands, number by number.
macro_rules! binary {
    ($(#[$doc:meta] $name:ident = $op:ident;)*) => {$(
        #[$doc]
        #[inline(always)]
        #[must_use]
        pub fn $name(mut self, simd: S, other: Self) -> Self {
            for i in 0..N {
                self.0[i] = simd.$op(self.0[i], other.0[i]);
            }
            self
        }
    )*};
}

impl<S: Simd, const N: usize> Lanes<S, N> {
    binary! {
        /// self + other.
        add = add_f32s;
        /// self - other.
        sub = sub_f32s;
        /// self * other.
        mul = mul_f32s;
        /// self / other.
        div = div_f32s;
        /// The smaller one.
        min = min_f32s;
        /// The larger one.
        max = max_f32s;
    }

    /// The same number everywhere.
    #[inline(always)]
    #[must_use]
    pub fn splat(simd: S, value: f32) -> Self {
        Self([simd.splat_f32s(value); N])
    }

    /// Those of memory.
    #[inline(always)]
    #[must_use]
    pub fn load(simd: S, from: &[f32; LANES]) -> Self {
        let mut lanes = Self::splat(simd, 0.0);
        lanes.0.copy_from_slice(&S::as_simd_f32s(from).0[..N]);
        lanes
    }

    /// Writes them to memory.
    #[inline(always)]
    pub fn store(self, to: &mut [f32; LANES]) {
        S::as_mut_simd_f32s(to).0[..N].copy_from_slice(&self.0);
    }

    /// self * factor + term, rounded once where the processor can.
    #[inline(always)]
    #[must_use]
    pub fn mul_add(mut self, simd: S, factor: Self, term: Self) -> Self {
        for i in 0..N {
            self.0[i] = simd.mul_add_e_f32s(self.0[i], factor.0[i], term.0[i]);
        }
        self
    }

    /// The roots.
    #[inline(always)]
    #[must_use]
    pub fn sqrt(mut self, simd: S) -> Self {
        for i in 0..N {
            self.0[i] = simd.sqrt_f32s(self.0[i]);
        }
        self
    }

    /// Sum of all, those farthest from each other first.
    #[inline(always)]
    #[must_use]
    pub fn sum(mut self, simd: S) -> f32 {
        let mut half = N / 2;
        while half > 0 {
            for i in 0..half {
                self.0[i] = simd.add_f32s(self.0[i], self.0[i + half]);
            }
            half /= 2;
        }
        simd.reduce_sum_f32s(self.0[0])
    }

    /// The smallest one.
    #[inline(always)]
    #[must_use]
    pub fn smallest(self, simd: S) -> f32 {
        let mut least = self.0[0];
        for i in 1..N {
            least = simd.min_f32s(least, self.0[i]);
        }
        simd.reduce_min_f32s(least)
    }

    /// e^x for x <= 0 with a relative error below 2e-7; arguments under -87 give about 1e-38. With fused multiplications and
    /// without the case of large results, it takes half the instructions of [`exp`](super::simd::exp).
    #[inline(always)]
    #[must_use]
    pub fn exp_of_negative(self, simd: S) -> Self {
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let constant = Constants { simd };
        let x = self.max(simd, constant.of(-87.0));
        let shifted = x.mul_add(simd, constant.of(std::f32::consts::LOG2_E), constant.of(ROUND));
        let n = shifted.sub(simd, constant.of(ROUND));
        let r = n.mul_add(simd, constant.of(-LN2_HIGH), x);
        let r = n.mul_add(simd, constant.of(-LN2_LOW), r);
        let mut p = constant.of(1.987_569_1e-4);
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = p.mul_add(simd, r, constant.of(coefficient));
        }
        let mantissa = p.mul_add(simd, r.mul(simd, r), r).add(simd, constant.of(1.0));
        mantissa.mul(simd, shifted.power_of_two(simd))
    }

    /// 2^n of numbers whose lowest bits are n; those above leave on the left.
    #[inline(always)]
    fn power_of_two(mut self, simd: S) -> Self {
        for i in 0..N {
            let n = simd.add_u32s(simd.transmute_u32s_f32s(self.0[i]), simd.splat_u32s(127));
            self.0[i] = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(n, simd.splat_u32s(23)));
        }
        self
    }
}

/// Numbers of the code, in lanes.
#[derive(Clone, Copy)]
struct Constants<S> {
    simd: S,
}

impl<S: Simd> Constants<S> {
    #[inline(always)]
    fn of<const N: usize>(self, value: f32) -> Lanes<S, N> {
        Lanes::splat(self.simd, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// e^x of each, their sum and their least.
    struct All<'a>(&'a mut [f32; LANES]);

    impl LaneKernel for All<'_> {
        type Output = (f32, f32);

        #[inline(always)]
        fn run<S: Simd, const N: usize>(self, simd: S) -> (f32, f32) {
            let values = Lanes::<S, N>::load(simd, self.0).exp_of_negative(simd);
            values.store(self.0);
            (values.sum(simd), values.smallest(simd))
        }
    }

    #[test]
    fn exp_of_negative_numbers_is_accurate() {
        for i in 0..87_000 / LANES {
            let x: [f32; LANES] = std::array::from_fn(|lane| -((i * LANES + lane) as f32) * 1e-3);
            let mut found = x;
            dispatch_lanes(All(&mut found));
            for (found, x) in found.into_iter().zip(x) {
                let expected = f64::from(x).exp();
                assert!((f64::from(found) / expected - 1.0).abs() < 2e-7, "{x}: {found} {expected}");
            }
        }
        let mut ends = [-1e9; LANES];
        ends[3] = 0.0;
        let (sum, least) = dispatch_lanes(All(&mut ends));
        assert!(ends[3] == 1.0 && sum == 1.0 && least == ends[0] && (0.0..2e-38).contains(&least));
    }

    /// Without fused multiplications results may differ in the last bits, sums of the same numbers do not.
    #[test]
    fn narrower_vectors_give_the_same() {
        let values: [f32; LANES] = std::array::from_fn(|lane| -0.37 * lane as f32);
        let mut widest = values;
        let (sum, least) = dispatch_lanes(All(&mut widest));
        let mut scalar = values;
        let (scalar_sum, scalar_least) = All(&mut scalar).run::<_, LANES>(pulp::Scalar);
        assert!((sum - scalar_sum).abs() < 1e-6 && (least - scalar_least).abs() < 1e-9);
        struct Sum<'a>(&'a [f32; LANES]);
        impl LaneKernel for Sum<'_> {
            type Output = f32;
            #[inline(always)]
            fn run<S: Simd, const N: usize>(self, simd: S) -> f32 {
                Lanes::<S, N>::load(simd, self.0).sum(simd)
            }
        }
        assert_eq!(dispatch_lanes(Sum(&widest)), Sum(&widest).run::<_, LANES>(pulp::Scalar));
    }
}
