//! From the F of a location to the images that its vectors belong to.

use drifting_models::ops::lanes::{LaneKernel, Lanes};
use drifting_models::ops::simd::LANES;
use pulp::Simd;

use super::numeric::lane_squares;

/// Writes F of one location times `slope` to the images; gives the sum of the squares of F.
pub(super) struct Place<'a, 'b> {
    /// Some numbers of each F, `[Ng, numbers]`.
    pub(super) drifts: &'a [f32],
    pub(super) slope: f32,
    /// Where they belong in what follows.
    pub(super) first: usize,
    /// Numbers of each image.
    pub(super) images: &'a mut [&'b mut [f32]],
}

impl LaneKernel for Place<'_, '_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) -> f64 {
        let Self { drifts, slope, first, images } = self;
        let slopes = Lanes::<S, N>::splat(simd, slope);
        let width = drifts.len() / images.len();
        let mut square = 0.0;
        for (image, drift) in images.iter_mut().zip(drifts.chunks_exact(width)) {
            let (places, places_rest) = image[first..][..width].as_chunks_mut::<LANES>();
            let (numbers, rest) = drift.as_chunks::<LANES>();
            for (place, numbers) in places.iter_mut().zip(numbers) {
                Lanes::load(simd, numbers).mul(simd, slopes).store(place);
            }
            for (place, number) in places_rest.iter_mut().zip(rest) {
                *place = number * slope;
            }
            square += lane_squares::<S, N>(simd, drift);
        }
        square
    }
}
