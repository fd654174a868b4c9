//! Feature keys of the raw image.

use std::borrow::Cow;
use std::fmt;

use drifting_models::ops::simd;
use drifting_models::profile;
use drifting_spec::ImageShape;
use rayon::prelude::*;

use super::FeatureError;

/// Added to the variance of a cell before the root (method section 6).
pub(super) const STD_EPSILON: f32 = 1e-6;

/// A feature key of the raw image. The image is cut into square cells where the name has a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelKey {
    /// `global`: the flattened image, T = 1; "drifting without phi" (paper 5.2).
    Global,
    /// `patch_K`: each cell of K x K pixels with all its channels is a location.
    Patch(usize),
    /// `mean_K`: the means of all cells, per channel, as one vector: the image K times smaller.
    Mean(usize),
    /// `std_K`: the standard deviations of all cells, per channel, as one vector.
    Std(usize),
}

impl fmt::Display for PixelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Patch(side) => write!(f, "patch_{side}"),
            Self::Mean(side) => write!(f, "mean_{side}"),
            Self::Std(side) => write!(f, "std_{side}"),
        }
    }
}

impl PixelKey {
    /// The key of this name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "global" {
            return Some(Self::Global);
        }
        let (kind, side) = name.split_once('_')?;
        let side = side.parse().ok().filter(|side| *side > 0)?;
        match kind {
            "patch" => Some(Self::Patch(side)),
            "mean" => Some(Self::Mean(side)),
            "std" => Some(Self::Std(side)),
            _ => None,
        }
    }

    /// Locations T and dimension D of the key for images of `shape`.
    ///
    /// # Errors
    /// Cells that do not tile the image.
    pub fn size(&self, shape: ImageShape) -> Result<(usize, usize), FeatureError> {
        let ImageShape { channels, height, width } = shape;
        let cells = |side: usize| match height % side + width % side {
            0 => Ok((height / side) * (width / side)),
            _ => Err(FeatureError::Indivisible { key: self.to_string(), cell: side, height, width }),
        };
        match *self {
            Self::Global => Ok((1, shape.len())),
            Self::Patch(side) => Ok((cells(side)?, side * side * channels)),
            Self::Mean(side) | Self::Std(side) => Ok((1, cells(side)? * channels)),
        }
    }

    /// Features `[images, T, D]` of images `[images, channels, height, width]`.
    #[must_use]
    pub fn extract<'a>(&self, shape: ImageShape, images: &'a [f32]) -> Cow<'a, [f32]> {
        let Some(cells) = self.cells(shape) else { return Cow::Borrowed(images) };
        let len = cells.features(shape);
        let numbers = images.len() / shape.len() * len;
        let _span = profile::span("statistics").numbers(images.len() + numbers);
        let mut features = vec![0.0; numbers];
        features.par_chunks_mut(len).zip(images.par_chunks(shape.len())).for_each(|(features, image)| {
            simd::dispatch(|| match self {
                Self::Global => {}
                Self::Patch(_) => cells.each_pixel(|feature, pixel| features[feature] = image[pixel]),
                Self::Mean(_) => cells.means(image, features),
                Self::Std(_) => {
                    let mut means = vec![0.0; len];
                    cells.means(image, &mut means);
                    cells.deviations(image, &means, features);
                }
            });
        });
        Cow::Owned(features)
    }

    /// Adds to `image_gradient` the gradient that `gradient` (with respect to the features of `images`) brings back.
    pub fn pull_back(&self, shape: ImageShape, images: &[f32], gradient: &[f32], image_gradient: &mut [f32]) {
        let Some(cells) = self.cells(shape) else {
            image_gradient.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient);
            return;
        };
        let len = cells.features(shape);
        let images = images.par_chunks(shape.len()).zip(image_gradient.par_chunks_mut(shape.len()));
        gradient.par_chunks(len).zip(images).for_each(|(gradient, (image, sum))| {
            simd::dispatch(|| match self {
                Self::Global => {}
                Self::Patch(_) => cells.each_pixel(|feature, pixel| sum[pixel] += gradient[feature]),
                Self::Mean(_) => {
                    let share = 1.0 / cells.area();
                    cells.each_pixel(|feature, pixel| sum[pixel] += gradient[feature] * share);
                }
                Self::Std(_) => {
                    let (mut means, mut deviations) = (vec![0.0; len], vec![0.0; len]);
                    cells.means(image, &mut means);
                    cells.deviations(image, &means, &mut deviations);
                    cells.each_pixel(|feature, pixel| {
                        let slope = (image[pixel] - means[feature]) / (cells.area() * deviations[feature]);
                        sum[pixel] += gradient[feature] * slope;
                    });
                }
            });
        });
    }

    /// How the key cuts the image; `None` when it takes it as it is.
    fn cells(&self, shape: ImageShape) -> Option<Cells> {
        match *self {
            Self::Global => None,
            Self::Patch(side) => Some(Cells { shape, side, pooled: false }),
            Self::Mean(side) | Self::Std(side) => Some(Cells { shape, side, pooled: true }),
        }
    }
}

/// An image cut into square cells.
struct Cells {
    shape: ImageShape,
    side: usize,
    /// Whether a cell is one feature per channel or all its pixels.
    pooled: bool,
}

impl Cells {
    fn area(&self) -> f32 {
        (self.side * self.side) as f32
    }

    /// Numbers that the key makes of one image.
    fn features(&self, shape: ImageShape) -> usize {
        if self.pooled { shape.len() / (self.side * self.side) } else { shape.len() }
    }

    /// Calls `f(feature, pixel)` for every pixel with the feature that it belongs to.
    #[inline(always)]
    fn each_pixel(&self, mut f: impl FnMut(usize, usize)) {
        let (ImageShape { channels, height, width }, side) = (self.shape, self.side);
        let columns = width / side;
        for channel in 0..channels {
            for row in 0..height {
                let line = (channel * height + row) * width;
                for column in 0..width {
                    let cell = row / side * columns + column / side;
                    let inside = (channel * side + row % side) * side + column % side;
                    let feature = match self.pooled {
                        true => channel * (height / side) * columns + cell,
                        false => cell * channels * side * side + inside,
                    };
                    f(feature, line + column);
                }
            }
        }
    }

    #[inline(always)]
    fn means(&self, image: &[f32], means: &mut [f32]) {
        self.each_pixel(|feature, pixel| means[feature] += image[pixel]);
        let share = 1.0 / self.area();
        means.iter_mut().for_each(|mean| *mean *= share);
    }

    #[inline(always)]
    fn deviations(&self, image: &[f32], means: &[f32], deviations: &mut [f32]) {
        self.each_pixel(|feature, pixel| deviations[feature] += (image[pixel] - means[feature]).powi(2));
        let share = 1.0 / self.area();
        deviations.iter_mut().for_each(|deviation| *deviation = (*deviation * share + STD_EPSILON).sqrt());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drifting_spec::Stream;

    const SHAPE: ImageShape = ImageShape { channels: 2, height: 4, width: 6 };

    fn key(name: &str) -> PixelKey {
        PixelKey::parse(name).unwrap()
    }

    #[test]
    fn names_are_read_and_written() {
        for name in ["global", "patch_7", "mean_4", "std_14"] {
            assert_eq!(key(name).to_string(), name);
        }
        for name in ["", "patch", "patch_", "patch_0", "patch_x", "max_2", "Global"] {
            assert_eq!(PixelKey::parse(name), None);
        }
    }

    #[test]
    fn sizes_follow_the_cells() {
        let sizes = ["global", "patch_2", "mean_2", "std_2"].map(|name| key(name).size(SHAPE).unwrap());
        assert_eq!(sizes, [(1, 48), (6, 8), (1, 12), (1, 12)]);
        let message = key("patch_4").size(SHAPE).unwrap_err().to_string();
        assert!(message.contains("patch_4 needs an image whose sides are multiples of 4, not 4x6"), "{message}");
    }

    #[test]
    fn cells_hold_their_pixels() {
        let image: Vec<f32> = (0..48).map(|i| i as f32).collect();
        // Cell (row 0, column 1): columns 2 and 3 of rows 0 and 1; channels lie 24 apart.
        assert_eq!(key("patch_2").extract(SHAPE, &image)[8..16], [2., 3., 8., 9., 26., 27., 32., 33.]);
        let means = key("mean_2").extract(SHAPE, &image);
        assert_eq!((means[1], means[6 + 1]), (5.5, 29.5));
        let expected = (9.25f32 + STD_EPSILON).sqrt();
        assert!((key("std_2").extract(SHAPE, &image)[1] - expected).abs() < 1e-5);
    }

    #[test]
    fn pulling_back_is_the_slope() {
        let images = Stream::new(1, "images", 0).normals(2 * SHAPE.len());
        for name in ["global", "patch_2", "mean_2", "std_2"] {
            let key = key(name);
            let features = key.extract(SHAPE, &images);
            let weights = Stream::new(1, "weights", 0).normals(features.len());
            let loss = |images: &[f32]| {
                let features = key.extract(SHAPE, images);
                features.iter().zip(&weights).map(|(f, w)| f64::from(*f) * f64::from(*w)).sum::<f64>()
            };
            let mut gradient = vec![0.0; images.len()];
            key.pull_back(SHAPE, &images, &weights, &mut gradient);
            for pixel in [0, 7, 30, 60, 95] {
                let at = |step: f32| {
                    let mut moved = images.clone();
                    moved[pixel] += step;
                    loss(&moved)
                };
                let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!(
                    (slope - f64::from(gradient[pixel])).abs() < 1e-3,
                    "{name}[{pixel}]: {slope} {}",
                    gradient[pixel]
                );
            }
        }
    }
}
