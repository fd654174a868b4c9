//! The small matrices, multiplied with vectors of numbers: points 0, 1, -1 and infinity, which only add and halve.

use pulp::Simd;

use super::{OUT, SIDE};

/// B' d.
#[inline(always)]
pub(super) fn mixed<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; SIDE]) -> [S::f32s; SIDE] {
    [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
}

/// A' m.
#[inline(always)]
pub(super) fn gathered<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; SIDE]) -> [S::f32s; OUT] {
    [simd.add_f32s(a, simd.add_f32s(b, c)), simd.sub_f32s(simd.sub_f32s(b, c), d)]
}

/// G g.
#[inline(always)]
pub(super) fn spread<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; SIDE] {
    let (half, sum) = (simd.splat_f32s(0.5), simd.add_f32s(a, c));
    [a, simd.mul_f32s(half, simd.add_f32s(sum, b)), simd.mul_f32s(half, simd.sub_f32s(sum, b)), c]
}
