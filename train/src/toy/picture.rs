//! Scatter and field pictures.

use super::{DIM, Target};
use crate::canvas::{Canvas, Colour, Place};
use crate::drift::{Coupling, DriftError, DriftSettings, Negatives, field};

const DATA: Colour = [176, 176, 182];
const SAMPLES: Colour = [214, 96, 38];
const ARROWS: Colour = [36, 92, 156];
const FRAME: Colour = [120, 120, 126];
/// Pixels between two panels.
const GAP: usize = 12;
/// Arrows along a side of a field.
const GRID: usize = 25;

/// One panel of a picture: generated points over those of the data, and the drift.
#[derive(Clone, Debug, Default)]
pub(super) struct Panel {
    /// Points `[n, 2]` of the data, grey.
    pub(super) data: Vec<f32>,
    /// Generated points `[n, 2]`, coloured.
    pub(super) samples: Vec<f32>,
    /// Places and the drift there.
    pub(super) arrows: Vec<[[f32; DIM]; 2]>,
}

/// The panels, `columns` in a row and `side` pixels wide, as PNG; `extent` is half the side of the square they show.
pub(super) fn draw(panels: &[Panel], columns: usize, side: usize, extent: f32) -> Option<Vec<u8>> {
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns);
    let mut canvas = Canvas::white(columns * (side + GAP) + GAP, rows * (side + GAP) + GAP);
    for (number, panel) in panels.iter().enumerate() {
        let corner = [number % columns, number / columns].map(|place| (GAP + place * (side + GAP)) as f64);
        panel.draw(&mut canvas, corner, side as f64, f64::from(extent));
    }
    canvas.png()
}

impl Panel {
    fn draw(&self, canvas: &mut Canvas, corner: Place, side: f64, extent: f64) {
        let place = |[x, y]: [f64; DIM]| -> Option<Place> {
            let inside = x.abs() <= extent && y.abs() <= extent;
            let scale = side / (2.0 * extent);
            inside.then(|| [corner[0] + (x + extent) * scale, corner[1] + (extent - y) * scale])
        };
        let radius = (side / 280.0).max(1.0);
        for (points, colour, opacity) in [(&self.data, DATA, 0.8), (&self.samples, SAMPLES, 0.75)] {
            let places = points.as_chunks::<DIM>().0.iter().filter_map(|point| place(point.map(f64::from)));
            places.for_each(|center| canvas.disc(center, radius, colour, opacity));
        }
        let longest = 2.0 * extent / GRID as f64;
        for [from, drift] in &self.arrows {
            let (from, drift) = (from.map(f64::from), drift.map(f64::from));
            let shorter = (longest / drift[0].hypot(drift[1]).max(1e-12)).min(1.0);
            let to = [from[0] + shorter * drift[0], from[1] + shorter * drift[1]];
            if let (Some(from), Some(to)) = (place(from), place(to)) {
                canvas.arrow([from, to], ARROWS);
            }
        }
        canvas.frame(corner, side, FRAME);
    }
}

/// The drift of paper eq. 10 on a grid over the square of half side `extent`: mean-shift towards the data minus mean-shift
/// towards the samples, each normalised by itself so that it depends on the place alone.
///
/// # Errors
/// Points that are not finite.
pub(super) fn arrows(
    samples: &[f32],
    data: &[f32],
    settings: &DriftSettings,
    extent: f32,
) -> Result<Vec<[[f32; DIM]; 2]>, DriftError> {
    let unit = if settings.normalize_features { mean_distance(samples, data) } else { 1.0 };
    let temperature = settings.temperatures.iter().fold(f32::MIN_POSITIVE, |most, tau| most.max(*tau)) * unit;
    let mean_shift = DriftSettings {
        normalize_over_x: false,
        coupling: Coupling::Split,
        kernel: settings.kernel,
        attraction: settings.attraction,
        repulsion: settings.repulsion,
        ..DriftSettings::plain(temperature)
    };
    let coordinate = |cell: usize| extent * ((2 * cell + 1) as f32 / GRID as f32 - 1.0);
    let places: Vec<[f32; DIM]> =
        (0..GRID * GRID).map(|cell| [coordinate(cell % GRID), coordinate(cell / GRID)]).collect();
    let drift = field(places.as_flattened(), data, Negatives::Others(samples), DIM, &mean_shift)?;
    Ok(places.into_iter().zip(drift.as_chunks::<DIM>().0).map(|(place, drift)| [place, *drift]).collect())
}

/// Mean distance between generated points and the data, of as many pairs as there are points.
fn mean_distance(samples: &[f32], data: &[f32]) -> f32 {
    let pairs = samples.as_chunks::<DIM>().0.iter().zip(data.as_chunks::<DIM>().0);
    let distances: Vec<f32> = pairs.map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1])).collect();
    (distances.iter().sum::<f32>() / distances.len().max(1) as f32).max(1e-3)
}

/// Half the side of the square that shows target and start.
pub(super) fn extent(target: &Target, start: Option<([f32; DIM], f32)>) -> f32 {
    let start = start.map_or(0.0, |(center, spread)| center[0].abs().max(center[1].abs()) + 3.0 * spread);
    1.05 * target.extent().max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_lead_from_the_samples_to_the_data() {
        let settings = DriftSettings::plain(0.5);
        let found = arrows(&[-1.0, 0.0, -1.0, 0.1], &[1.0, 0.0, 1.0, -0.1], &settings, 2.0).unwrap();
        assert_eq!(found.len(), GRID * GRID);
        assert!(found.iter().all(|[_, drift]| (drift[0] - 2.0).abs() < 0.2 && drift[1].abs() < 0.3), "{found:?}");
        let none = arrows(&[1.0, 0.0, 0.0, 1.0], &[0.0, 1.0, 1.0, 0.0], &settings, 2.0).unwrap();
        assert!(none.iter().all(|[_, drift]| drift[0].hypot(drift[1]) < 1e-5), "equal sets do not drift");
    }

    #[test]
    fn a_picture_shows_its_points_where_they_are() {
        let panel = Panel { samples: vec![0.5, 0.5], ..Panel::default() };
        let png = draw(&[panel, Panel::default()], 2, 100, 1.0).unwrap();
        let picture = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (236, 124));
        let coloured = |&(_, _, pixel): &(u32, u32, &image::Rgb<u8>)| pixel[0] > 200 && pixel[2] < 200;
        let places: Vec<_> = picture.enumerate_pixels().filter(coloured).map(|(x, y, _)| (x, y)).collect();
        assert!(
            !places.is_empty() && places.iter().all(|(x, y)| x.abs_diff(87) <= 1 && y.abs_diff(37) <= 1),
            "{places:?}"
        );
    }
}
