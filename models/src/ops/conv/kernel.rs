//! Sums of products of runs of numbers with blocks of weights, in registers.

use pulp::{Simd, WithSimd};

/// Pixels whose outputs are in registers together.
pub(super) const PIXELS: usize = 6;
/// Vectors of outputs of each.
pub(super) const WIDE: usize = 4;
/// As [`WIDE`], for few outputs or registers.
pub(super) const NARROW: usize = 2;
/// As [`WIDE`], for the fewest outputs.
pub(super) const ONE: usize = 1;
/// Weights of a block of outputs that are used for all pixels of a tile before the next come, in bytes.
const CHUNK: usize = 64 << 10;

/// Numbers in a vector of this processor.
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    pulp::Arch::new().dispatch(Lanes)
}

/// Outputs in a block; nothing where outputs are too few for the vectors of this processor, or make no whole blocks.
pub(super) fn block(outputs: usize) -> Option<usize> {
    let lanes = lanes();
    // Four vectors of six pixels need 32 registers.
    let vectors: &[usize] = match lanes {
        16 => &[WIDE, NARROW, ONE],
        8 => &[NARROW, ONE],
        _ => &[],
    };
    vectors.iter().map(|vectors| vectors * lanes).find(|block| outputs.is_multiple_of(*block))
}

/// Weights of each output of a block of which [`CHUNK`] is made.
pub(super) fn longest(block: usize) -> usize {
    CHUNK / (4 * block)
}

/// Parts of some rows of the kernel, at a place of the image that differs from pixel to pixel.
pub(super) struct Runs<'a> {
    /// From the begin of a patch to the first run.
    pub(super) offset: usize,
    /// From a run of the image to the next.
    pub(super) row: usize,
    pub(super) lines: usize,
    /// Numbers in a run.
    pub(super) len: usize,
    pub(super) weights: &'a [f32],
    /// From a run of the weights to the next.
    pub(super) line: usize,
    /// Whether something was added before.
    pub(super) begun: bool,
}

impl Runs<'_> {
    /// Adds the products of the runs to the outputs from `first` on of a few pixels, whose patches begin at `starts` and whose
    /// results at `places`.
    #[inline(always)]
    pub(super) fn add<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        (x, starts): (&[f32], &[usize]),
        first: usize,
        (y, places): (&mut [f32], &[usize]),
    ) {
        let block = VECTORS * S::F32_LANES;
        // Where there are fewer pixels, the last one is computed several times.
        let last = starts.len() - 1;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; PIXELS];
        for line in 0..self.lines {
            let weights = S::as_simd_f32s(&self.weights[line * self.line..][..self.len * block]).0;
            let mut runs: [&[f32]; PIXELS] = [&[]; PIXELS];
            for (pixel, run) in runs.iter_mut().enumerate() {
                *run = &x[starts[pixel.min(last)] + self.offset + line * self.row..][..self.len];
            }
            sums = add_run::<S, VECTORS>(simd, sums, runs, weights);
        }
        for (sums, place) in sums.iter().zip(places) {
            let to = S::as_mut_simd_f32s(&mut y[place + first..][..block]).0;
            for (to, &sum) in to.iter_mut().zip(sums) {
                *to = if self.begun { simd.add_f32s(*to, sum) } else { sum };
            }
        }
    }
}

/// The sums, which stay in registers, and the products of a run.
#[inline(always)]
fn add_run<S: Simd, const VECTORS: usize>(
    simd: S,
    mut sums: [[S::f32s; VECTORS]; PIXELS],
    runs: [&[f32]; PIXELS],
    weights: &[S::f32s],
) -> [[S::f32s; VECTORS]; PIXELS] {
    let (weights, _) = weights.as_chunks::<VECTORS>();
    let len = weights.len();
    let [a, b, c, d, e, f] = runs;
    let (a, b, c, d, e, f) = (&a[..len], &b[..len], &c[..len], &d[..len], &e[..len], &f[..len]);
    for i in 0..len {
        let (values, weights) = ([a[i], b[i], c[i], d[i], e[i], f[i]], weights[i]);
        for pixel in 0..PIXELS {
            let value = simd.splat_f32s(values[pixel]);
            for vector in 0..VECTORS {
                sums[pixel][vector] = simd.mul_add_e_f32s(value, weights[vector], sums[pixel][vector]);
            }
        }
    }
    sums
}
