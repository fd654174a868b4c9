//! Pairs of normal numbers, many at once.
//!
//! The steps are those of libm's `log` and `sincos` for the arguments that Box-Muller gives them, in the same order and
//! without branches, so that the compiler may vectorise them and the bits are libm's. Arguments for which libm takes
//! another road (about one in a hundred thousand) are left to libm.

#![allow(
    clippy::excessive_precision,
    clippy::unreadable_literal,
    clippy::approx_constant,
    reason = "the constants are spelled as libm spells them"
)]

use std::f64::consts::TAU;

/// Pairs that are computed together.
pub(super) const PAIRS: usize = 64;

/// What two 64-bit numbers become: uniform in (0, 1] and an angle in [0, 2 pi).
#[inline(always)]
fn uniform(bits: u64) -> f64 {
    unsigned(bits >> 11) * (1.0 / (1u64 << 53) as f64)
}

/// A number below 2^53 as f64, exactly; older processors convert no vector of 64-bit integers.
#[inline(always)]
fn unsigned(value: u64) -> f64 {
    let low = f64::from_bits(0x4330_0000_0000_0000 | (value & 0xffff_ffff));
    let high = f64::from_bits(0x4530_0000_0000_0000 | (value >> 32));
    (high - f64::from_bits(0x4530_0000_0010_0000)) + low
}

/// The pair of `bits`, by libm.
pub(super) fn pair(bits: [u64; 2]) -> [f64; 2] {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform(bits[0])));
    let (sine, cosine) = libm::sincos(TAU * uniform(bits[1]));
    [radius * cosine, radius * sine]
}

/// The pairs of `bits`: each as [`pair`] gives it, to the bit.
pub(super) fn pairs(bits: &[[u64; PAIRS]; 2], out: &mut [[f32; PAIRS]; 2]) {
    let rare = pulp::Arch::new().dispatch(Pairs { bits, out });
    if rare != 0 {
        for i in 0..PAIRS {
            let [first, second] = pair([bits[0][i], bits[1][i]]);
            (out[0][i], out[1][i]) = (first as f32, second as f32);
        }
    }
}

/// The loop of [`pairs`]; it gives 0 if every number is right. (The compiler leaves a closure of this size outside of what
/// it compiles for the processor at hand.)
struct Pairs<'a> {
    bits: &'a [[u64; PAIRS]; 2],
    out: &'a mut [[f32; PAIRS]; 2],
}

impl pulp::WithSimd for Pairs<'_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> u64 {
        let ([radii, angles], [first, second]) = (self.bits, self.out);
        let mut rare = 0;
        for i in 0..PAIRS {
            let radius = (-2.0 * log(1.0 - uniform(radii[i]))).sqrt();
            let (sine, cosine, other) = sincos(TAU * uniform(angles[i]));
            first[i] = (radius * cosine) as f32;
            second[i] = (radius * sine) as f32;
            rare |= other;
        }
        rare
    }
}

/// libm's `log` of a normal number.
#[inline(always)]
fn log(x: f64) -> f64 {
    const LN2_HI: f64 = 6.93147180369123816490e-01;
    const LN2_LO: f64 = 1.90821492927058770002e-10;
    const L: [f64; 7] = [
        6.666666666666735130e-01,
        3.999999999940941908e-01,
        2.857142874366239149e-01,
        2.222219843214978396e-01,
        1.818357216161805012e-01,
        1.531383769920937332e-01,
        1.479819860511658591e-01,
    ];
    // x = 2^k (1 + f), 1 + f between the roots of a half and of two.
    let shifted = x.to_bits().wrapping_add((0x3ff0_0000 - 0x3fe6_a09e) << 32);
    let k = unsigned(shifted >> 52) - 1023.0;
    let f = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff) + (0x3fe6_a09e << 32)) - 1.0;
    let half = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (L[1] + w * (L[3] + w * L[5]));
    let odd = z * (L[0] + w * (L[2] + w * (L[4] + w * L[6])));
    s * (half + (odd + even)) + k * LN2_LO - half + f + k * LN2_HI
}

/// libm's sine and cosine of an angle in [0, 2 pi), and whether (not zero) it takes another road there.
#[inline(always)]
fn sincos(x: f64) -> (f64, f64, u64) {
    const PIO2_1: f64 = 1.57079632673412561417e+00;
    const PIO2_1T: f64 = 6.07710050650619224932e-11;
    let high = x.to_bits() >> 32;
    let rare = u64::from(high & 0xf_ffff == 0x9_21fb) | u64::from(high == 0x4012_d97c) | u64::from(high < 0x3e46_a09e);
    let quarter = u64::from(high > 0x3fe9_21fb)
        + u64::from(high > 0x4002_d97c)
        + u64::from(high > 0x400f_6a7a)
        + u64::from(high > 0x4015_fdbc);
    let n = unsigned(quarter);
    let z = x - n * PIO2_1;
    let y = z - n * PIO2_1T;
    let tail = (z - y) - n * PIO2_1T;
    let (sine, cosine) = (kernel_sine(y, tail, quarter == 0), kernel_cosine(y, tail));
    let odd = quarter & 1 == 1;
    let (s, c) = if odd { (cosine, sine) } else { (sine, cosine) };
    let sign = |negative: u64, value: f64| f64::from_bits(value.to_bits() ^ (negative << 63));
    (sign(quarter >> 1 & 1, s), sign((quarter >> 1 ^ quarter) & 1, c), rare)
}

#[inline(always)]
fn kernel_sine(x: f64, tail: f64, whole: bool) -> f64 {
    const S: [f64; 6] = [
        -1.66666666666666324348e-01,
        8.33333333332248946124e-03,
        -1.98412698298579493134e-04,
        2.75573137070700676789e-06,
        -2.50507602534068634195e-08,
        1.58969099521155010221e-10,
    ];
    let z = x * x;
    let w = z * z;
    let r = S[1] + z * (S[2] + z * S[3]) + z * w * (S[4] + z * S[5]);
    let v = z * x;
    let reduced = x - ((z * (0.5 * tail - v * r) - tail) - v * S[0]);
    if whole { x + v * (S[0] + z * r) } else { reduced }
}

#[inline(always)]
fn kernel_cosine(x: f64, tail: f64) -> f64 {
    const C: [f64; 6] = [
        4.16666666666666019037e-02,
        -1.38888888888741095749e-03,
        2.48015872894767294178e-05,
        -2.75573143513906633035e-07,
        2.08757232129817482790e-09,
        -1.13596475577881948265e-11,
    ];
    let z = x * x;
    let w = z * z;
    let r = z * (C[0] + z * (C[1] + z * C[2])) + w * w * (C[3] + z * (C[4] + z * C[5]));
    let half = 0.5 * z;
    let w = 1.0 - half;
    w + (((1.0 - w) - half) + (z * r - x * tail))
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// Angles on both sides of every bound, and each end of the logarithm, among random ones.
    fn numbers() -> Vec<[u64; 2]> {
        let mut generator = ChaCha8Rng::seed_from_u64(5);
        let mut numbers: Vec<[u64; 2]> = (0..1 << 18).map(|_| [generator.next_u64(), generator.next_u64()]).collect();
        for eighth in 0..8u64 {
            let bound = (eighth << 61) as i64;
            numbers.extend((-300i64..300).map(|step| [u64::MAX, bound.wrapping_add(step << 11) as u64]));
            numbers.extend((-300i64..300).map(|step| [0, bound.wrapping_add(step << 37) as u64]));
            numbers.extend((0..64).map(|bit| [1u64 << bit, (bound as u64).wrapping_add(1 << bit)]));
        }
        numbers
    }

    #[test]
    fn every_number_is_libms_to_the_bit() {
        let numbers = numbers();
        let mut rare = 0;
        for chunk in numbers.chunks(PAIRS) {
            let mut bits = [[0; PAIRS]; 2];
            let mut out = [[0.0; PAIRS]; 2];
            for (i, &[first, second]) in chunk.iter().enumerate() {
                (bits[0][i], bits[1][i]) = (first, second);
            }
            pairs(&bits, &mut out);
            for (i, &[first, second]) in chunk.iter().enumerate() {
                let wanted = pair([first, second]).map(|value| (value as f32).to_bits());
                assert_eq!([out[0][i].to_bits(), out[1][i].to_bits()], wanted, "{first:#x} {second:#x}");
                let (sine, cosine, other) = sincos(TAU * uniform(second));
                if other == 0 {
                    assert_eq!((sine, cosine), libm::sincos(TAU * uniform(second)), "{second:#x}");
                } else {
                    rare += 1;
                }
                assert_eq!(
                    log(1.0 - uniform(first)).to_bits(),
                    libm::log(1.0 - uniform(first)).to_bits(),
                    "{first:#x}"
                );
            }
        }
        assert!(rare > 0 && rare < numbers.len() / 10, "{rare} of {}", numbers.len());
    }

    #[test]
    fn integers_below_two_to_the_53_convert_exactly() {
        for value in [0, 1, 0xffff_ffff, 1 << 32, (1 << 53) - 1, 0x1f_0000_0001] {
            assert_eq!(unsigned(value), value as f64);
        }
    }
}
