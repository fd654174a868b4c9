//! From the F of a location to the images that its vectors belong to.

use drifting_models::ops::lanes::{LaneKernel, Lanes};
use drifting_models::ops::simd::LANES;
use pulp::Simd;

use super::batch::KeyShape;
use super::numeric::lane_squares;

/// `force` `[groups * Ng, T, D]` cut into what tasks of `stretch` locations of one group write: for each task the numbers of
/// each image `[stretch, D]`.
pub(super) fn tasks(force: &mut [f32], shape: KeyShape, stretch: usize) -> Vec<Vec<&mut [f32]>> {
    let KeyShape { groups, locations, generated, dim, .. } = shape;
    let per_group = locations / stretch;
    let mut tasks: Vec<_> = (0..groups * per_group).map(|_| Vec::with_capacity(generated)).collect();
    for (image, numbers) in force.chunks_exact_mut(locations * dim).enumerate() {
        let tasks = tasks[image / generated * per_group..].iter_mut();
        tasks.zip(numbers.chunks_exact_mut(stretch * dim)).for_each(|(task, numbers)| task.push(numbers));
    }
    tasks
}

/// Writes F of one location times `slope` to the images; gives the sum of the squares of F.
pub(super) struct Place<'a, 'b> {
    /// F `[Ng, D]`.
    pub(super) drifts: &'a [f32],
    pub(super) slope: f32,
    /// Position of the location in what follows.
    pub(super) number: usize,
    /// Of each image `[.., D]`.
    pub(super) images: &'a mut [&'b mut [f32]],
    pub(super) dim: usize,
}

impl LaneKernel for Place<'_, '_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) -> f64 {
        let Self { drifts, slope, number, images, dim } = self;
        let slopes = Lanes::<S, N>::splat(simd, slope);
        let mut square = 0.0;
        for (image, drift) in images.iter_mut().zip(drifts.chunks_exact(dim)) {
            let (places, places_rest) = image[number * dim..][..dim].as_chunks_mut::<LANES>();
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
