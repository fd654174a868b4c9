//! What keys take from images and maps, forward and back, in tensor operations: for devices other than the processor.

use candle_core::{Result, Tensor};
use drifting_models::ops::{inner, kernels};
use drifting_spec::ImageShape;

use super::key::{FeatureKey, Origin};
use super::pixel::{self, PixelKey};
use super::space::{Encoded, FeatureSpace};
use super::statistic::{self, MapShape, Statistic};

impl Encoded {
    /// The features `[n, T, D]` of all images under a key of `space`, out of their graph.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn features(&self, space: &FeatureSpace, key: &FeatureKey) -> Result<Tensor> {
        match key.origin {
            Origin::Image(pixel) => pixel.of_tensor(space.image(), &self.images.detach()),
            Origin::Map(index, statistic) => statistic.of_tensor(space.map_shape(index), &self.map(index)?.detach()),
        }
    }

    fn map(&self, index: usize) -> Result<&Tensor> {
        match self.maps.get(index) {
            Some(Some(map)) => Ok(map),
            _ => candle_core::bail!("map {index} was not kept"),
        }
    }
}

/// Gradients with respect to images and maps as tensors, added up over keys.
#[derive(Debug)]
pub struct TensorGradients {
    images: Option<Tensor>,
    maps: Vec<Option<Tensor>>,
}

impl TensorGradients {
    /// No gradients of what `encoded` holds.
    #[must_use]
    pub fn new(encoded: &Encoded) -> Self {
        Self { images: None, maps: vec![None; encoded.maps.len()] }
    }

    /// Adds what `gradient` `[n, T, D]`, with respect to the features of `encoded` under `key`, brings back.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn add(&mut self, space: &FeatureSpace, encoded: &Encoded, key: &FeatureKey, gradient: &Tensor) -> Result<()> {
        let (sum, more) = match key.origin {
            Origin::Image(pixel) => {
                let more = pixel.back_tensor(space.image(), &encoded.images.detach(), gradient)?;
                (&mut self.images, more)
            }
            Origin::Map(index, statistic) => {
                let (shape, map, sum) = (space.map_shape(index), encoded.map(index)?.detach(), &mut self.maps[index]);
                if kernels(map.device()) {
                    return statistic.add_back(shape, &map, gradient, sum);
                }
                (sum, statistic.back_tensor(shape, &map, gradient)?)
            }
        };
        *sum = Some(match sum.take() {
            Some(sum) => (sum + more)?,
            None => more,
        });
        Ok(())
    }

    /// A scalar whose backward hands each tensor of `encoded` its gradient.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn seed(self, encoded: &Encoded) -> Result<Option<Tensor>> {
        let mut seeds: Vec<Tensor> = Vec::new();
        if let Some(gradient) = self.images {
            seeds.push(inner(&encoded.images, &gradient)?);
        }
        for (map, gradient) in encoded.maps.iter().zip(self.maps) {
            if let (Some(map), Some(gradient)) = (map, gradient) {
                seeds.push(inner(map, &gradient)?);
            }
        }
        seeds.into_iter().map(Ok).reduce(|a: Result<Tensor>, b| a? + b?).transpose()
    }
}

impl Statistic {
    /// Features `[images, T, C]` of `map` `[images, height, width, C]`.
    fn of_tensor(&self, shape: MapShape, map: &Tensor) -> Result<Tensor> {
        let flat = |features: &Tensor| {
            let images = map.dim(0)?;
            features.reshape((images, self.locations(shape), shape.channels))
        };
        if *self == Self::Raw {
            return flat(map);
        }
        if kernels(map.device())
            && let Some(features) = self.by_kernel(shape, map)?
        {
            return Ok(features);
        }
        let cells = self.cut(shape, map)?;
        match self {
            Self::Raw | Self::Mean | Self::CellMeans(_) => flat(&cells.mean_keepdim(PLACES)?),
            Self::MeanSquare => flat(&cells.sqr()?.mean_keepdim(PLACES)?),
            Self::RootMeanSquare => flat(&deviation(&cells, PLACES, statistic::EPSILON)?),
            Self::Std | Self::CellStds(_) => flat(&deviation(&centred(&cells, PLACES)?, PLACES, statistic::EPSILON)?),
        }
    }

    /// Adds to `sum`, where it is, the gradient with respect to `map` that `gradient` brings back.
    fn add_back(&self, shape: MapShape, map: &Tensor, gradient: &Tensor, sum: &mut Option<Tensor>) -> Result<()> {
        let so_far = match sum.take() {
            Some(sum) => sum,
            None => map.zeros_like()?,
        };
        let added = self.add_by_kernel(shape, map, gradient, &so_far)?;
        *sum = Some(if added { so_far } else { (so_far + gradient.reshape(map.shape())?)? });
        Ok(())
    }

    /// The gradient with respect to `map` that `gradient` `[images, T, C]`, with respect to its features, brings back.
    fn back_tensor(&self, shape: MapShape, map: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        if *self == Self::Raw {
            return gradient.reshape(map.shape());
        }
        let (rows, columns) = self.cell(shape);
        let cells = self.cut(shape, map)?;
        let (images, share) = (map.dim(0)?, 1.0 / (rows * columns) as f64);
        let gradient = gradient.reshape((images, shape.height / rows, 1, shape.width / columns, 1, shape.channels))?;
        let gradient = (gradient * share)?;
        let back = match self {
            Self::Raw | Self::Mean | Self::CellMeans(_) => gradient.broadcast_as(cells.shape())?,
            Self::MeanSquare => cells.broadcast_mul(&(gradient * 2.0)?)?,
            Self::RootMeanSquare => slope(&cells, PLACES, statistic::EPSILON, &gradient)?,
            Self::Std | Self::CellStds(_) => slope(&centred(&cells, PLACES)?, PLACES, statistic::EPSILON, &gradient)?,
        };
        back.contiguous()?.reshape(map.shape())
    }

    /// `[images, rows of cells, rows, columns of cells, columns, C]`.
    fn cut(&self, shape: MapShape, map: &Tensor) -> Result<Tensor> {
        let (rows, columns) = self.cell(shape);
        map.reshape((map.dim(0)?, shape.height / rows, rows, shape.width / columns, columns, shape.channels))
    }
}

/// Where the places of a cell lie in a map that is cut into cells.
const PLACES: (usize, usize) = (2, 4);
/// Where the pixels of a cell lie in an image that is cut into cells.
const PIXELS: (usize, usize) = (3, 5);

fn centred(cells: &Tensor, dims: (usize, usize)) -> Result<Tensor> {
    cells.broadcast_sub(&cells.mean_keepdim(dims)?)
}

/// sqrt(mean of x^2 + epsilon).
fn deviation(away: &Tensor, dims: (usize, usize), epsilon: f32) -> Result<Tensor> {
    (away.sqr()?.mean_keepdim(dims)? + f64::from(epsilon))?.sqrt()
}

/// d deviation / d x = x / (n deviation), `gradient` being divided by n already.
fn slope(away: &Tensor, dims: (usize, usize), epsilon: f32, gradient: &Tensor) -> Result<Tensor> {
    away.broadcast_mul(&(gradient / deviation(away, dims, epsilon)?)?)
}

impl PixelKey {
    /// Features `[images, T, D]` of images `[images, channels, height, width]`.
    fn of_tensor(&self, shape: ImageShape, images: &Tensor) -> Result<Tensor> {
        let count = images.dim(0)?;
        match *self {
            Self::Global => images.reshape((count, 1, shape.len())),
            Self::Patch(side) => {
                let cells = cut(shape, side, images)?.permute((0, 2, 4, 1, 3, 5))?.contiguous()?;
                cells.reshape((count, (), side * side * shape.channels))
            }
            Self::Mean(side) => cut(shape, side, images)?.mean_keepdim(PIXELS)?.reshape((count, 1, ())),
            Self::Std(side) => {
                let away = centred(&cut(shape, side, images)?, PIXELS)?;
                deviation(&away, PIXELS, pixel::STD_EPSILON)?.reshape((count, 1, ()))
            }
        }
    }

    /// The gradient with respect to `images` that `gradient` `[images, T, D]`, with respect to their features, brings back.
    fn back_tensor(&self, shape: ImageShape, images: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let count = images.dim(0)?;
        let ImageShape { channels, height, width } = shape;
        let pooled = |side: usize| {
            let gradient = gradient.reshape((count, channels, height / side, 1, width / side, 1))?;
            gradient / (side * side) as f64
        };
        let back = match *self {
            Self::Global => return gradient.reshape(images.shape()),
            Self::Patch(side) => {
                let cells = gradient.reshape((count, height / side, width / side, channels, side, side))?;
                cells.permute((0, 3, 1, 4, 2, 5))?
            }
            Self::Mean(side) => pooled(side)?.broadcast_as(cut(shape, side, images)?.shape())?,
            Self::Std(side) => {
                let away = centred(&cut(shape, side, images)?, PIXELS)?;
                slope(&away, PIXELS, pixel::STD_EPSILON, &pooled(side)?)?
            }
        };
        back.contiguous()?.reshape(images.shape())
    }
}

/// `[images, channels, rows of cells, rows, columns of cells, columns]`.
fn cut(ImageShape { channels, height, width }: ImageShape, side: usize, images: &Tensor) -> Result<Tensor> {
    images.reshape((images.dim(0)?, channels, height / side, side, width / side, side))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use drifting_spec::Stream;

    use super::*;

    fn agree(what: &str, found: &Tensor, expected: &[f32]) {
        let found = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found.len(), expected.len(), "{what}");
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{what} [{at}]: {found} {expected}");
        }
    }

    #[test]
    fn statistics_of_maps_are_those_of_the_processor() {
        let shape = MapShape { height: 4, width: 8, channels: 3 };
        let numbers = Stream::new(1, "map", 0).normals(2 * shape.len());
        let map = Tensor::from_slice(&numbers, (2, 4, 8, 3), &Device::Cpu).unwrap();
        let all = Statistic::of_map(shape).into_iter().chain([Statistic::RootMeanSquare, Statistic::MeanSquare]);
        for statistic in all {
            let name = format!("{statistic:?}");
            let expected = statistic.extract(shape, &numbers);
            let found = statistic.of_tensor(shape, &map).unwrap();
            assert_eq!(found.dims(), [2, statistic.locations(shape), 3], "{name}");
            agree(&name, &found, &expected);
            let gradient = Stream::new(1, "gradient", 0).normals(expected.len());
            let mut sum = vec![0.0; numbers.len()];
            let images = sum.chunks_mut(shape.len()).zip(numbers.chunks(shape.len()));
            for ((sum, image), gradient) in images.zip(gradient.chunks(expected.len() / 2)) {
                statistic.pull_back(shape, image, gradient, sum);
            }
            let gradient = Tensor::from_vec(gradient, found.shape(), &Device::Cpu).unwrap();
            let back = statistic.back_tensor(shape, &map, &gradient).unwrap();
            assert_eq!(back.dims(), map.dims(), "{name}");
            agree(&format!("{name}, back"), &back, &sum);
            #[cfg(feature = "emulator")]
            drifting_kernels::emulator::emulated(|| {
                agree(&format!("{name} by a kernel"), &statistic.of_tensor(shape, &map).unwrap(), &expected);
                let mut back = None;
                for twice in [1.0, 2.0] {
                    statistic.add_back(shape, &map, &gradient, &mut back).unwrap();
                    let sum: Vec<f32> = sum.iter().map(|sum| sum * twice).collect();
                    agree(&format!("{name} by a kernel, back"), back.as_ref().unwrap(), &sum);
                }
            });
        }
    }

    #[test]
    fn keys_of_images_are_those_of_the_processor() {
        let shape = ImageShape { channels: 2, height: 4, width: 6 };
        let numbers = Stream::new(1, "images", 0).normals(3 * shape.len());
        let images = Tensor::from_slice(&numbers, (3, 2, 4, 6), &Device::Cpu).unwrap();
        for name in ["global", "patch_2", "mean_2", "std_2"] {
            let key = PixelKey::parse(name).unwrap();
            let (locations, dim) = key.size(shape).unwrap();
            let found = key.of_tensor(shape, &images).unwrap();
            assert_eq!(found.dims(), [3, locations, dim], "{name}");
            agree(name, &found, &key.extract(shape, &numbers));
            let gradient = Stream::new(1, "gradient", 0).normals(3 * locations * dim);
            let mut expected = vec![0.0; numbers.len()];
            key.pull_back(shape, &numbers, &gradient, &mut expected);
            let gradient = Tensor::from_vec(gradient, found.shape(), &Device::Cpu).unwrap();
            agree(&format!("{name}, back"), &key.back_tensor(shape, &images, &gradient).unwrap(), &expected);
        }
    }
}
