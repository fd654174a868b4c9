//! A map cut into cells: sums over each of them, and back.

use drifting_models::ops::lanes::{LaneKernel, Lanes, dispatch_lanes};
use drifting_models::ops::simd::LANES;
use pulp::Simd;

use super::statistic::MapShape;

/// A map cut into cells of `rows` x `columns` places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells {
    pub(super) shape: MapShape,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Cells {
    /// 1 / places of a cell.
    pub(super) fn share(&self) -> f32 {
        1.0 / (self.rows * self.columns) as f32
    }

    /// Means of `image` over each cell `[T, C]`.
    pub(super) fn means(&self, image: &[f32], means: &mut [f32]) {
        dispatch_lanes(Means { cells: *self, image, centres: None, means });
    }

    /// Means of (x - centre)^2 over each cell.
    pub(super) fn mean_squares(&self, image: &[f32], centres: &[f32], means: &mut [f32]) {
        dispatch_lanes(Means { cells: *self, image, centres: Some(centres), means });
    }

    /// Adds a cell's numbers `[T, C]` to each of its places.
    pub(super) fn spread(&self, numbers: &[f32], sum: &mut [f32]) {
        dispatch_lanes(Spread { cells: *self, numbers, beyond: None, sum });
    }

    /// Adds a cell's slopes `[T, C]` times x - centre to each of its places.
    pub(super) fn spread_slopes(&self, slopes: &[f32], image: &[f32], centres: &[f32], sum: &mut [f32]) {
        dispatch_lanes(Spread { cells: *self, numbers: slopes, beyond: Some((image, centres)), sum });
    }

    /// Numbers of a row of places, of the places of a row in one cell, and of a row of cells.
    fn lengths(&self) -> (usize, usize, usize) {
        let MapShape { width, channels, .. } = self.shape;
        (width * channels, self.columns * channels, width / self.columns * channels)
    }
}

/// Rows are added up before they are added: of a map that is constant, as one after a norm of single channels is, nothing but
/// rounding drifts, and this keeps it small.
struct Means<'a> {
    cells: Cells,
    image: &'a [f32],
    centres: Option<&'a [f32]>,
    means: &'a mut [f32],
}

impl LaneKernel for Means<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { cells, image, centres, means } = self;
        let (row, part, line) = cells.lengths();
        let channels = cells.shape.channels;
        means.fill(0.0);
        for (band, (means, places)) in
            means.chunks_exact_mut(line).zip(image.chunks_exact(cells.rows * row)).enumerate()
        {
            for places in places.chunks_exact(row) {
                for (cell, (mean, places)) in
                    means.chunks_exact_mut(channels).zip(places.chunks_exact(part)).enumerate()
                {
                    match centres {
                        None => add::<S, N>(simd, places, mean),
                        Some(centres) => {
                            add_squares::<S, N>(
                                simd,
                                places,
                                &centres[band * line + cell * channels..][..channels],
                                mean,
                            );
                        }
                    }
                }
            }
        }
        let share = cells.share();
        means.iter_mut().for_each(|mean| *mean *= share);
    }
}

/// Adds the sum of `places` `[n, C]` to `sums`.
#[inline(always)]
fn add<S: Simd, const N: usize>(simd: S, places: &[f32], sums: &mut [f32]) {
    let channels = sums.len();
    let (whole, rest) = sums.as_chunks_mut::<LANES>();
    for (number, sum) in whole.iter_mut().enumerate() {
        let mut total = Lanes::<S, N>::splat(simd, 0.0);
        for place in places.chunks_exact(channels) {
            total = total.add(simd, Lanes::load(simd, &place.as_chunks().0[number]));
        }
        Lanes::load(simd, sum).add(simd, total).store(sum);
    }
    let first = channels - rest.len();
    for (channel, sum) in rest.iter_mut().enumerate() {
        *sum += places.chunks_exact(channels).fold(0.0, |total, place| total + place[first + channel]);
    }
}

/// As [`add`], of the squares about `centres`.
#[inline(always)]
fn add_squares<S: Simd, const N: usize>(simd: S, places: &[f32], centres: &[f32], sums: &mut [f32]) {
    let channels = sums.len();
    let (whole, rest) = sums.as_chunks_mut::<LANES>();
    let (centres, centres_rest) = centres.as_chunks::<LANES>();
    for (number, (sum, centre)) in whole.iter_mut().zip(centres).enumerate() {
        let centre = Lanes::load(simd, centre);
        let mut total = Lanes::<S, N>::splat(simd, 0.0);
        for place in places.chunks_exact(channels) {
            let away = Lanes::load(simd, &place.as_chunks().0[number]).sub(simd, centre);
            total = away.mul_add(simd, away, total);
        }
        Lanes::load(simd, sum).add(simd, total).store(sum);
    }
    let first = channels - rest.len();
    for (channel, (sum, centre)) in rest.iter_mut().zip(centres_rest).enumerate() {
        let square = |total: f32, place: &[f32]| total + (place[first + channel] - centre).powi(2);
        *sum += places.chunks_exact(channels).fold(0.0, square);
    }
}

struct Spread<'a> {
    cells: Cells,
    numbers: &'a [f32],
    /// Image and centres.
    beyond: Option<(&'a [f32], &'a [f32])>,
    sum: &'a mut [f32],
}

impl LaneKernel for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { cells, numbers, beyond, sum } = self;
        let (row, part, line) = cells.lengths();
        let channels = cells.shape.channels;
        for (number, sums) in sum.chunks_exact_mut(row).enumerate() {
            let band = number / cells.rows * line;
            let cells = numbers[band..][..line].chunks_exact(channels);
            for (cell, (sums, numbers)) in sums.chunks_exact_mut(part).zip(cells).enumerate() {
                match beyond {
                    None => {
                        for sums in sums.chunks_exact_mut(channels) {
                            add::<S, N>(simd, numbers, sums);
                        }
                    }
                    Some((image, centres)) => {
                        let centres = &centres[band + cell * channels..][..channels];
                        let places = image[number * row + cell * part..][..part].chunks_exact(channels);
                        for (sums, place) in sums.chunks_exact_mut(channels).zip(places) {
                            add_slope::<S, N>(simd, numbers, (place, centres), sums);
                        }
                    }
                }
            }
        }
    }
}

/// Adds slope * (x - centre).
#[inline(always)]
fn add_slope<S: Simd, const N: usize>(simd: S, slopes: &[f32], (x, centres): (&[f32], &[f32]), sums: &mut [f32]) {
    let (whole, rest) = sums.as_chunks_mut::<LANES>();
    let (slopes, slopes_rest) = slopes.as_chunks::<LANES>();
    let ((x, x_rest), (centres, centres_rest)) = (x.as_chunks::<LANES>(), centres.as_chunks::<LANES>());
    for (((sum, slope), x), centre) in whole.iter_mut().zip(slopes).zip(x).zip(centres) {
        let away = Lanes::<S, N>::load(simd, x).sub(simd, Lanes::load(simd, centre));
        Lanes::load(simd, slope).mul_add(simd, away, Lanes::load(simd, sum)).store(sum);
    }
    for (((sum, slope), x), centre) in rest.iter_mut().zip(slopes_rest).zip(x_rest).zip(centres_rest) {
        *sum += slope * (x - centre);
    }
}
