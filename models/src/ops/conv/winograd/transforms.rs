//! The small matrices of either size, multiplied with vectors of numbers.
//!
//! A square of 2 x 2 results takes the points 0, 1, -1 and infinity (Lavin and Gray, section 4.1), which only adds and halves. One
//! of 4 x 4 takes 0, ±√½, ±√2 and infinity: of the points that make squares of this size these round least.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use pulp::Simd;

/// B' d.
#[inline(always)]
pub(super) fn mixed<S: Simd, const SIDE: usize>(simd: S, d: [S::f32s; SIDE]) -> [S::f32s; SIDE] {
    if SIDE == 4 {
        return first([
            simd.sub_f32s(d[0], d[2]),
            simd.add_f32s(d[1], d[2]),
            simd.sub_f32s(d[2], d[1]),
            simd.sub_f32s(d[1], d[3]),
            d[0],
            d[0],
        ]);
    }
    let (root, inverse) = (simd.splat_f32s(SQRT_2), simd.splat_f32s(FRAC_1_SQRT_2));
    let (high, half, two) = (simd.splat_f32s(-2.5), simd.splat_f32s(-0.5), simd.splat_f32s(-2.0));
    let (minus_root, minus_inverse) = (simd.splat_f32s(-SQRT_2), simd.splat_f32s(-FRAC_1_SQRT_2));
    let near = simd.mul_add_e_f32s(two, d[2], d[4]);
    let far = simd.mul_add_e_f32s(half, d[2], d[4]);
    let odd_near = simd.mul_add_e_f32s(minus_root, d[1], simd.mul_f32s(inverse, d[3]));
    let odd_far = simd.mul_add_e_f32s(minus_inverse, d[1], simd.mul_f32s(root, d[3]));
    first([
        simd.add_f32s(simd.mul_add_e_f32s(high, d[2], d[0]), d[4]),
        simd.add_f32s(near, odd_near),
        simd.sub_f32s(near, odd_near),
        simd.add_f32s(far, odd_far),
        simd.sub_f32s(far, odd_far),
        simd.add_f32s(simd.mul_add_e_f32s(high, d[3], d[1]), d[5]),
    ])
}

/// A' m.
#[inline(always)]
pub(super) fn gathered<S: Simd, const SIDE: usize, const OUT: usize>(simd: S, m: [S::f32s; SIDE]) -> [S::f32s; OUT] {
    let (sum, difference) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    if SIDE == 4 {
        return first([simd.add_f32s(m[0], sum), simd.sub_f32s(difference, m[3]), m[0], m[0]]);
    }
    let (root, inverse) = (simd.splat_f32s(SQRT_2), simd.splat_f32s(FRAC_1_SQRT_2));
    let (half, two) = (simd.splat_f32s(0.5), simd.splat_f32s(2.0));
    let (small, large) = (simd.splat_f32s(0.5 * FRAC_1_SQRT_2), simd.splat_f32s(2.0 * SQRT_2));
    let (sum_far, difference_far) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    first([
        simd.add_f32s(simd.add_f32s(m[0], sum), sum_far),
        simd.mul_add_e_f32s(inverse, difference, simd.mul_f32s(root, difference_far)),
        simd.mul_add_e_f32s(half, sum, simd.mul_f32s(two, sum_far)),
        simd.mul_add_e_f32s(small, difference, simd.mul_add_e_f32s(large, difference_far, m[5])),
    ])
}

/// G g.
#[inline(always)]
pub(super) fn spread<S: Simd, const SIDE: usize>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; SIDE] {
    if SIDE == 4 {
        let (half, sum) = (simd.splat_f32s(0.5), simd.add_f32s(a, c));
        return first([
            a,
            simd.mul_f32s(half, simd.add_f32s(sum, b)),
            simd.mul_f32s(half, simd.sub_f32s(sum, b)),
            c,
            a,
            a,
        ]);
    }
    let (minus_third, sixth, two) = (simd.splat_f32s(-1.0 / 3.0), simd.splat_f32s(1.0 / 6.0), simd.splat_f32s(2.0));
    let odd = simd.mul_f32s(simd.splat_f32s(SQRT_2), b);
    let (near, far) = (simd.mul_add_e_f32s(two, a, c), simd.mul_add_e_f32s(two, c, a));
    first([
        a,
        simd.mul_f32s(minus_third, simd.add_f32s(near, odd)),
        simd.mul_f32s(minus_third, simd.sub_f32s(near, odd)),
        simd.mul_f32s(sixth, simd.add_f32s(far, odd)),
        simd.mul_f32s(sixth, simd.sub_f32s(far, odd)),
        c,
    ])
}

/// The first of them.
#[inline(always)]
#[allow(clippy::manual_memcpy, reason = "vectors stay in registers so, not in memory that is copied")]
fn first<T: Copy, const ALL: usize, const SOME: usize>(values: [T; ALL]) -> [T; SOME] {
    let mut some = [values[0]; SOME];
    for i in 0..SOME {
        some[i] = values[i];
    }
    some
}
