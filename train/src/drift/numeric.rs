//! Loops over f32 slices that compilers turn into vector instructions, each with one order of additions.

const LANES: usize = 8;
/// Numbers that are added in f32 before the sum goes on in f64.
const BLOCK: usize = 256;

/// e^x for x in [-87, 88], 0 below; within 2e-7 of it, relatively.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let r = (clamped - power * LN2_HIGH) - power * LN2_LOW;
    let tail = (((1.987_569_1e-4 * r + 1.398_2e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1;
    let mantissa = (tail * r + 0.5) * (r * r) + r + 1.0;
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -87.0 { 0.0 } else { mantissa * scale }
}

/// 1 / x, or 0 where x is 0: the share of nothing is nothing.
#[inline]
pub(super) fn inverse(x: f32) -> f32 {
    if x > 0.0 { 1.0 / x } else { 0.0 }
}

/// Sum.
pub(super) fn sum(values: &[f32]) -> f32 {
    total(lanes(values, 0.0, |sum, value| sum + value))
}

/// Sum of squares.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    let block = |block: &[f32]| f64::from(total(lanes(block, 0.0, |sum, value| sum + value * value)));
    values.chunks(BLOCK).map(block).sum()
}

/// Largest number, -inf of none.
pub(super) fn max(values: &[f32]) -> f32 {
    let larger = |largest: f32, value: f32| if value > largest { value } else { largest };
    lanes(values, f32::NEG_INFINITY, larger).into_iter().fold(f32::NEG_INFINITY, larger)
}

fn total([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

#[inline(always)]
fn lanes(values: &[f32], start: f32, step: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut lanes = [start; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = step(*lane, value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, value);
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_a_few_units_in_the_last_place() {
        let worst = (-870_000..=50_000).map(|i| i as f32 * 1e-4).map(|x| {
            let exact = f64::from(x).exp();
            ((f64::from(exp(x)) - exact) / exact).abs()
        });
        assert!(worst.fold(0.0, f64::max) < 2e-7);
        assert_eq!((exp(0.0), exp(-87.1), exp(-1e6), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn reductions_take_every_number_once() {
        for count in [0, 1, 7, 8, 9, 600] {
            let values: Vec<f32> = (0..count).map(|i| ((i * 37) % 11) as f32 - 5.0).collect();
            assert_eq!(sum(&values), values.iter().sum::<f32>());
            assert_eq!(sum_of_squares(&values), values.iter().map(|&v| f64::from(v * v)).sum::<f64>());
            assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
        assert_eq!((inverse(4.0), inverse(0.0)), (0.25, 0.0));
    }
}
