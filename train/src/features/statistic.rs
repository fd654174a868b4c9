//! What a key takes from a feature map, in closed form: forward and back (method section 6; paper A.5).

use std::borrow::Cow;

use drifting_models::ops::written;
use drifting_models::profile;

use super::cells::Cells;

/// Added to variances and mean squares before the root (method section 6).
pub(super) const EPSILON: f32 = 1e-6;

/// Sizes of a map: images are `[height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers at one place.
    pub channels: usize,
}

impl MapShape {
    /// Numbers of one image.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no map is empty")]
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }
}

/// One statistic of a map; every location is a vector over the channels, D = C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// The map as it is, T = h w.
    Raw,
    /// Means over all places, T = 1.
    Mean,
    /// Standard deviations over all places, sqrt(variance + 1e-6), T = 1.
    Std,
    /// Means of the cells of K x K places, T = h w / K^2.
    CellMeans(usize),
    /// Standard deviations within the cells of K x K places.
    CellStds(usize),
    /// sqrt(mean of x^2 + 1e-6) over all places, T = 1 (official code).
    RootMeanSquare,
    /// Mean of x^2 over all places, T = 1 (paper A.5).
    MeanSquare,
}

impl Statistic {
    /// The statistics of a map in the paper's order: (a) raw, (b) mean and std, (c) cells of 2, (d) cells of 4. Cells that do
    /// not tile the map are left out.
    #[must_use]
    pub fn of_map(shape: MapShape) -> Vec<Self> {
        let fits = |cell: usize| shape.height.is_multiple_of(cell) && shape.width.is_multiple_of(cell);
        let cells = [2, 4].into_iter().filter(|&cell| fits(cell));
        let cells = cells.flat_map(|cell| [Self::CellMeans(cell), Self::CellStds(cell)]);
        [Self::Raw, Self::Mean, Self::Std].into_iter().chain(cells).collect()
    }

    /// Name of the key that takes this from the map `map`.
    #[must_use]
    pub fn key_name(&self, map: &str) -> String {
        match self {
            Self::Raw => map.to_owned(),
            Self::Mean => format!("{map}_mean"),
            Self::Std => format!("{map}_std"),
            Self::CellMeans(cell) => format!("{map}_mean_{cell}"),
            Self::CellStds(cell) => format!("{map}_std_{cell}"),
            Self::RootMeanSquare | Self::MeanSquare => format!("norm_{map}"),
        }
    }

    /// Vectors that it makes of one image, T.
    #[must_use]
    pub fn locations(&self, shape: MapShape) -> usize {
        let (rows, columns) = self.cell(shape);
        (shape.height / rows) * (shape.width / columns)
    }

    /// Features `[images, T, C]` of `map` `[images, height, width, C]`.
    #[must_use]
    pub fn extract<'a>(&self, shape: MapShape, map: &'a [f32]) -> Cow<'a, [f32]> {
        if *self == Self::Raw {
            return Cow::Borrowed(map);
        }
        let len = self.locations(shape) * shape.channels;
        let _span = profile::span("statistics").numbers(map.len() + map.len() / shape.len() * len);
        let images = map.len() / shape.len();
        let [features] = written(images * len, len, |start, [features]| {
            if let Some(image) = map.chunks_exact(shape.len()).nth(start / len.max(1)) {
                self.of_image(shape, image, features);
            }
        });
        Cow::Owned(features)
    }

    /// Features `[T, C]` of one image; `features` may hold anything.
    fn of_image(&self, shape: MapShape, image: &[f32], features: &mut [f32]) {
        let cells = self.cells(shape);
        match self {
            Self::Raw => features.copy_from_slice(image),
            Self::Mean | Self::CellMeans(_) => cells.means(image, features),
            Self::MeanSquare => cells.mean_squares(image, &vec![0.0; features.len()], features),
            Self::Std | Self::CellStds(_) | Self::RootMeanSquare => {
                cells.mean_squares(image, &self.centres(cells, image, features.len()), features);
                features.iter_mut().for_each(|square| *square = (*square + EPSILON).sqrt());
            }
        }
    }

    /// Adds to `sum` `[height, width, C]` what `gradient` `[T, C]`, with respect to the features of `image`, brings back.
    pub fn pull_back(&self, shape: MapShape, image: &[f32], gradient: &[f32], sum: &mut [f32]) {
        let cells = self.cells(shape);
        let share = cells.share();
        let times = |factor: f32| gradient.iter().map(|gradient| gradient * factor).collect::<Vec<_>>();
        match self {
            Self::Raw => sum.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient),
            Self::Mean | Self::CellMeans(_) => cells.spread(&times(share), sum),
            Self::MeanSquare => cells.spread_slopes(&times(2.0 * share), image, &vec![0.0; gradient.len()], sum),
            Self::Std | Self::CellStds(_) | Self::RootMeanSquare => {
                // d std / d x = (x - mean) / (n std), with the std that includes the 1e-6.
                let centres = self.centres(cells, image, gradient.len());
                let mut slopes = vec![0.0; gradient.len()];
                cells.mean_squares(image, &centres, &mut slopes);
                for (slope, gradient) in slopes.iter_mut().zip(gradient) {
                    *slope = gradient * share / (*slope + EPSILON).sqrt();
                }
                cells.spread_slopes(&slopes, image, &centres, sum);
            }
        }
    }

    /// What it measures from: the mean of each cell or 0.
    fn centres(&self, cells: Cells, image: &[f32], len: usize) -> Vec<f32> {
        let mut centres = vec![0.0; len];
        if let Self::Std | Self::CellStds(_) = self {
            cells.means(image, &mut centres);
        }
        centres
    }

    pub(super) fn cell(&self, MapShape { height, width, .. }: MapShape) -> (usize, usize) {
        match *self {
            Self::Raw => (1, 1),
            Self::CellMeans(cell) | Self::CellStds(cell) => (cell, cell),
            Self::Mean | Self::Std | Self::RootMeanSquare | Self::MeanSquare => (height, width),
        }
    }

    fn cells(&self, shape: MapShape) -> Cells {
        let (rows, columns) = self.cell(shape);
        Cells { shape, rows, columns }
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::Stream;

    use super::*;

    const SHAPE: MapShape = MapShape { height: 4, width: 8, channels: 3 };
    const ALL: [Statistic; 9] = [
        Statistic::Raw,
        Statistic::Mean,
        Statistic::Std,
        Statistic::CellMeans(2),
        Statistic::CellStds(2),
        Statistic::CellMeans(4),
        Statistic::CellStds(4),
        Statistic::RootMeanSquare,
        Statistic::MeanSquare,
    ];

    #[test]
    fn names_and_sizes_are_the_papers() {
        let names: Vec<_> = Statistic::of_map(SHAPE).iter().map(|statistic| statistic.key_name("conv1")).collect();
        let expected =
            ["conv1", "conv1_mean", "conv1_std", "conv1_mean_2", "conv1_std_2", "conv1_mean_4", "conv1_std_4"];
        assert_eq!(names, expected);
        assert_eq!(ALL.map(|statistic| statistic.locations(SHAPE)), [32, 1, 1, 8, 8, 2, 2, 1, 1]);
        let odd = MapShape { height: 7, width: 7, channels: 2 };
        assert_eq!(Statistic::of_map(odd), [Statistic::Raw, Statistic::Mean, Statistic::Std]);
        let inputs = [Statistic::RootMeanSquare, Statistic::MeanSquare];
        assert_eq!(inputs.map(|statistic| statistic.key_name("x")), ["norm_x", "norm_x"]);
    }

    #[test]
    fn cells_are_what_their_formulas_say() {
        let map: Vec<f32> = (0..SHAPE.len()).map(|i| ((i * i) % 17) as f32).collect();
        let at = |row: usize, column: usize| f64::from(map[(row * 8 + column) * 3 + 1]);
        let cell = [at(2, 4), at(2, 5), at(3, 4), at(3, 5)];
        let mean = cell.iter().sum::<f64>() / 4.0;
        let std = (cell.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4.0 + 1e-6).sqrt();
        // Row 1, column 2 of 2 x 4 cells, channel 1.
        let place = 6 * 3 + 1;
        assert!((f64::from(Statistic::CellMeans(2).extract(SHAPE, &map)[place]) - mean).abs() < 1e-5);
        assert!((f64::from(Statistic::CellStds(2).extract(SHAPE, &map)[place]) - std).abs() < 1e-5);
        let squares: f64 = map.iter().skip(1).step_by(3).map(|&x| f64::from(x).powi(2)).sum();
        let rms = (squares / 32.0 + 1e-6).sqrt();
        assert!((f64::from(Statistic::RootMeanSquare.extract(SHAPE, &map)[1]) - rms).abs() < 1e-5);
        assert!((f64::from(Statistic::MeanSquare.extract(SHAPE, &map)[1]) - squares / 32.0).abs() < 1e-5 * squares);
        let flat = vec![0.3; SHAPE.len()];
        let stds = Statistic::CellStds(4).extract(SHAPE, &flat).into_owned();
        assert!(stds.iter().all(|std| (std - 1e-3).abs() < 1e-6), "{stds:?}");
    }

    #[test]
    fn pulling_back_is_the_slope() {
        let map = Stream::new(1, "map", 0).normals(SHAPE.len());
        for statistic in ALL {
            let count = statistic.extract(SHAPE, &map).len();
            let weights = Stream::new(1, "weights", 0).normals(count);
            let loss = |map: &[f32]| {
                let features = statistic.extract(SHAPE, map);
                features.iter().zip(&weights).map(|(f, w)| f64::from(*f) * f64::from(*w)).sum::<f64>()
            };
            let mut gradient = vec![0.5; map.len()];
            statistic.pull_back(SHAPE, &map, &weights, &mut gradient);
            for place in [0, 7, 30, 60, 95] {
                let at = |step: f32| {
                    let mut moved = map.clone();
                    moved[place] += step;
                    loss(&moved)
                };
                let (slope, found) = ((at(1e-2) - at(-1e-2)) / 2e-2, f64::from(gradient[place]) - 0.5);
                assert!((slope - found).abs() < 1e-3, "{statistic:?} [{place}]: {slope} {found}");
            }
        }
    }
}
