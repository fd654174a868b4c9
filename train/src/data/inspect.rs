//! What is in a source.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use drifting_models::autoencoder::Autoencoder;
use drifting_spec::{ImageShape, Stream, pixels};
use rayon::prelude::*;

use super::sources::{Item, Source};
use super::{Augment, DataError, Picture, Result, Skipped};

/// Images read at once: sums are taken in this order, so the figures do not depend on the number of processors.
const CHUNK: usize = 256;

/// What [`inspect`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspection {
    /// Images of each class, read or not.
    pub per_class: Vec<usize>,
    /// Images that were read.
    pub read: usize,
    /// How many images have which shape (channels, height, width).
    pub shapes: BTreeMap<[usize; 3], usize>,
    /// Statistics of each channel, for each number of channels.
    pub channels: BTreeMap<usize, Vec<Moments>>,
    /// Whether the numbers are latents rather than pixels.
    pub latents: bool,
    /// Images that cannot be read.
    pub damaged: Vec<Skipped>,
}

/// Sums over the numbers of a channel: pixels between 0 and 1, latents as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    /// Mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    /// Standard deviation.
    #[must_use]
    pub fn std(&self) -> f64 {
        (self.squares / self.count.max(1.0) - self.mean() * self.mean()).max(0.0).sqrt()
    }

    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        numbers.fold(Self::default(), |Self { count, sum, squares }, number| Self {
            count: count + 1.0,
            sum: sum + number,
            squares: squares + number * number,
        })
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }
}

/// Reads the images of a source, all of them or `limit` spread evenly over it, and sums up what they are. `progress` hears
/// how many were read.
///
/// # Errors
/// A source that cannot be read; single images that cannot are listed instead.
pub fn inspect(source: &dyn Source, limit: Option<usize>, mut progress: impl FnMut(usize)) -> Result<Inspection> {
    let mut found = Inspection { per_class: vec![0; source.classes().len()], ..Inspection::default() };
    (0..source.len()).for_each(|index| found.per_class[source.label(index)] += 1);
    let count = limit.unwrap_or(source.len()).min(source.len());
    let indices: Vec<usize> = (0..count).map(|place| place * source.len() / count.max(1)).collect();
    let mut done = 0;
    for chunk in indices.chunks(CHUNK) {
        let images: Vec<_> = chunk.par_iter().map(|&index| look(source, index)).collect::<Result<_>>()?;
        images.into_iter().for_each(|image| found.add(image));
        done += chunk.len();
        progress(done);
    }
    Ok(found)
}

/// One image's shape and statistics, or why it cannot be read.
type Look = std::result::Result<(ImageShape, Vec<Moments>, bool), Skipped>;

fn look(source: &dyn Source, index: usize) -> Result<Look> {
    match source.read(index, 0) {
        Ok(Item::Picture(picture)) => {
            let shape = picture.shape();
            let planes = picture.planes().chunks_exact(shape.height * shape.width);
            let moments = planes.map(|plane| Moments::of(plane.iter().map(|&byte| f64::from(byte) / 255.0)));
            Ok(Ok((shape, moments.collect(), false)))
        }
        Ok(Item::Numbers(numbers)) => {
            let shape = source.shape().unwrap_or(ImageShape { channels: 1, height: 1, width: numbers.len() });
            let planes = numbers.chunks_exact((shape.height * shape.width).max(1));
            let moments = planes.map(|plane| Moments::of(plane.iter().map(|&number| f64::from(number))));
            Ok(Ok((shape, moments.collect(), true)))
        }
        Err(DataError::Image { name, problem }) => Ok(Err(Skipped { path: name.into(), problem })),
        Err(error) => Err(error),
    }
}

impl Inspection {
    fn add(&mut self, image: Look) {
        let (ImageShape { channels, height, width }, moments, latent) = match image {
            Ok(image) => image,
            Err(damaged) => return self.damaged.push(damaged),
        };
        self.read += 1;
        self.latents |= latent;
        *self.shapes.entry([channels, height, width]).or_default() += 1;
        let all = self.channels.entry(channels).or_insert_with(|| vec![Moments::default(); channels]);
        all.iter_mut().zip(moments).for_each(|(all, own)| all.add(own));
    }
}

/// What a contact sheet shows.
#[derive(Clone, Copy, Debug)]
pub struct Sheet<'a> {
    /// The first classes, a row for each.
    pub rows: usize,
    /// Images of each, spread evenly over the class.
    pub columns: usize,
    /// Most pixels of an image's side.
    pub side: usize,
    /// What makes pictures of latents.
    pub decoder: Option<&'a dyn Autoencoder>,
}

/// A contact sheet of the classes. Returns its shape and its interleaved bytes; `None` for latents without a decoder.
///
/// # Errors
/// A source that cannot be read, latents that the decoder does not take; damaged images are left white.
pub fn contact_sheet(source: &dyn Source, sheet: &Sheet<'_>) -> Result<Option<(ImageShape, Vec<u8>)>> {
    let &Sheet { columns, side, decoder, .. } = sheet;
    let rows = sheet.rows.min(source.classes().len());
    let mut by_class = vec![Vec::new(); rows];
    for index in 0..source.len() {
        if let Some(images) = by_class.get_mut(source.label(index)) {
            images.push(index);
        }
    }
    let spread = |images: &Vec<usize>| {
        let images = images.clone();
        (0..columns).map(move |column| images.get(column * images.len() / columns.max(1)).copied()).collect::<Vec<_>>()
    };
    let indices: Vec<Option<usize>> = by_class.iter().flat_map(spread).collect();
    let own = match (source.shape(), decoder) {
        (Some(latent), Some(decoder)) => Some(decoder.image_shape(latent)?),
        (own, _) => own,
    };
    let side = own.map_or(side, |shape| shape.height.max(shape.width).min(side)).max(1);
    let channels = if own.is_some_and(|own| own.channels == 1) { 1 } else { 3 };
    let shape = ImageShape { channels, height: side, width: side };
    let mut tiles = Vec::with_capacity(indices.len());
    for index in indices {
        let picture = match index.map(|index| source.read(index, 0)) {
            Some(Ok(Item::Numbers(numbers))) => match (source.shape(), decoder) {
                (Some(latent), Some(decoder)) => decoded(&numbers, latent, decoder)?.and_then(|it| tile(it, shape)),
                _ => return Ok(None),
            },
            Some(Ok(Item::Picture(picture))) => tile(picture, shape),
            Some(Err(DataError::Image { .. })) | None => None,
            Some(Err(error)) => return Err(error),
        };
        tiles.push(picture.unwrap_or_else(|| vec![255; shape.len()]));
    }
    let sheet = pixels::sheet(&tiles, shape, columns);
    sheet.map(Some).map_err(|error| DataError::Inconsistent(error.to_string()))
}

/// The picture of a latent.
fn decoded(latent: &[f32], shape: ImageShape, decoder: &dyn Autoencoder) -> Result<Option<Picture>> {
    let ImageShape { channels, height, width } = shape;
    let latent = Tensor::from_slice(latent, (1, channels, height, width), &Device::Cpu)?;
    let numbers = decoder.decode(&latent)?.detach().flatten_all()?.to_vec1::<f32>()?;
    let bytes = numbers.iter().map(|&value| ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8);
    Ok(Picture::new(decoder.image_shape(shape)?, bytes.collect()))
}

fn tile(picture: Picture, shape: ImageShape) -> Option<Vec<u8>> {
    let image = Augment::default().apply(picture, shape, &mut Stream::new(0, "data.fit", 0))?;
    let numbers: Vec<f32> = image.planes().iter().map(|&byte| f32::from(byte)).collect();
    pixels::to_bytes([0.0, 255.0], &numbers, shape).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::DataSource;
    use super::super::sources::{ClassFolders, testing::png};
    use super::*;

    #[test]
    fn the_embedded_images_have_the_known_statistics() {
        let shape = ImageShape { channels: 1, height: 28, width: 28 };
        let (data, _) = DataSource::default().open(shape).unwrap();
        let mut calls = Vec::new();
        let found = inspect(&data, None, |done| calls.push(done)).unwrap();
        assert_eq!((found.read, found.per_class, calls.last()), (5000, vec![500; 10], Some(&5000)));
        assert_eq!(found.shapes, BTreeMap::from([([1, 28, 28], 5000)]));
        // All 60,000 have a mean of .2860 and a standard deviation of .3530.
        let channel = found.channels[&1][0];
        assert!((channel.mean() - 0.286).abs() < 0.003 && (channel.std() - 0.353).abs() < 0.003);
        assert_eq!(inspect(&data, Some(100), |_| {}).unwrap().read, 100);
    }

    #[test]
    fn damaged_files_are_listed_and_white_on_the_sheet() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            fs::create_dir(folder.path().join(class)).unwrap();
            fs::write(folder.path().join(class).join("0.png"), png(100)).unwrap();
        }
        fs::write(folder.path().join("a/1.png"), "no").unwrap();
        let source = ClassFolders::open(folder.path()).unwrap();
        let found = inspect(&source, None, |_| {}).unwrap();
        assert_eq!((found.read, found.per_class), (2, vec![2, 1]));
        assert!(found.damaged[0].to_string().contains("a/1.png: "), "{:?}", found.damaged);
        let sheet = Sheet { rows: 5, columns: 2, side: 8, decoder: None };
        let (shape, bytes) = contact_sheet(&source, &sheet).unwrap().unwrap();
        assert_eq!(shape, ImageShape { channels: 3, height: 18, width: 18 });
        assert_eq!((bytes[0], bytes[10 * 3], bytes[10 * 18 * 3]), (100, 255, 100));
    }
}
