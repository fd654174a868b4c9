//! A source's images as the network takes them.

use std::sync::Arc;

use drifting_spec::{ImageShape, Stream};

use super::sources::{Item, Source};
use super::{Augment, Crop, DataError, DataInfo, Dataset, OnBad, Result};

/// One draw of an image. `number` is different in each draw of a run and decides what the augmentation does, so that an
/// image is a function of (seed, index, number) and of nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Draw {
    /// Which image.
    pub index: usize,
    /// Which draw.
    pub number: u64,
}

/// A drawn image, `[channels, height, width]`, as compact as its source had it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The draw; its index is that of the image that was read.
    pub draw: Draw,
    /// Class.
    pub label: usize,
    /// Pixels or numbers.
    pub values: Values,
}

/// Pixels, or numbers of a latent.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Bytes that mean -1 to 1.
    Bytes(Vec<u8>),
    /// Numbers as they are.
    Numbers(Vec<f32>),
}

impl Values {
    /// Appends the numbers that the network takes.
    pub fn append_to(&self, numbers: &mut Vec<f32>) {
        match self {
            Self::Bytes(bytes) => append_pixels(bytes, numbers),
            Self::Numbers(own) => numbers.extend_from_slice(own),
        }
    }
}

/// Appends the numbers that the network takes for these pixels.
pub(super) fn append_pixels(bytes: &[u8], numbers: &mut Vec<f32>) {
    numbers.extend(bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0));
}

/// Labelled images of one shape, read and augmented one at a time; may be shared among threads.
#[derive(Debug)]
pub struct Images {
    source: Arc<dyn Source>,
    augment: Augment,
    on_bad: OnBad,
    seed: u64,
    info: DataInfo,
    by_class: Vec<Vec<usize>>,
}

impl Images {
    /// The images of `source` in `shape`.
    ///
    /// # Errors
    /// Settings of the augmentation that are out of range or do not go with the source, numbers of another shape, a class
    /// without images.
    pub fn new(source: Arc<dyn Source>, shape: ImageShape, augment: Augment, seed: u64) -> Result<Self> {
        augment.validate()?;
        check(source.as_ref(), shape, &augment)?;
        let mut by_class = vec![Vec::new(); source.classes().len()];
        for index in 0..source.len() {
            match by_class.get_mut(source.label(index)) {
                Some(images) => images.push(index),
                None => {
                    let (name, label) = (source.name(index), source.label(index));
                    return Err(DataError::Inconsistent(format!("{name}: label {label} has no class")));
                }
            }
        }
        if let Some(class) = by_class.iter().position(Vec::is_empty) {
            return Err(DataError::EmptyClass { class, name: source.classes()[class].clone() });
        }
        let (classes, sha256) = (source.classes().to_vec(), source.sha256().to_owned());
        let info = DataInfo { shape, classes, images: source.len(), sha256 };
        Ok(Self { source, augment, on_bad: OnBad::Refuse, seed, info, by_class })
    }

    /// A data set in memory as it is.
    #[must_use]
    pub fn of(data: Arc<Dataset>) -> Self {
        let (info, augment) = (data.info(), Augment::default());
        let by_class = (0..info.classes.len()).map(|class| data.of_class(class).to_vec()).collect();
        Self { source: data, augment, on_bad: OnBad::Refuse, seed: 0, info, by_class }
    }

    /// What to do with a damaged image: with `Skip` another one of its class takes its place.
    #[must_use]
    pub fn on_bad(mut self, on_bad: OnBad) -> Self {
        self.on_bad = on_bad;
        self
    }

    /// Shape, classes, number and checksum.
    #[must_use]
    pub fn info(&self) -> &DataInfo {
        &self.info
    }

    /// The images of each class.
    #[must_use]
    pub fn by_class(&self) -> &[Vec<usize>] {
        &self.by_class
    }

    /// Where they come from.
    #[must_use]
    pub fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// Whether reading an image costs next to nothing.
    #[must_use]
    pub fn is_cheap(&self) -> bool {
        self.source.in_memory() && self.augment.crop == Crop::Fit
    }

    /// Reads and augments one image.
    ///
    /// # Errors
    /// A source that cannot be read; a damaged image, unless it is to be skipped and its class has another one.
    pub fn read(&self, draw: Draw) -> Result<Sample> {
        let label = self.source.label(draw.index);
        match self.read_exactly(draw, label) {
            Err(DataError::Image { .. }) if self.on_bad == OnBad::Skip => self.replace(draw, label),
            found => found,
        }
    }

    /// Reads several images, one after the other: their numbers, and the indices of those that were read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_all(&self, draws: &[Draw]) -> Result<(Vec<f32>, Vec<u64>)> {
        let mut numbers = Vec::with_capacity(draws.len() * self.info.shape.len());
        let mut ids = Vec::with_capacity(draws.len());
        for &draw in draws {
            let sample = self.read(draw)?;
            sample.values.append_to(&mut numbers);
            ids.push(sample.draw.index as u64);
        }
        Ok((numbers, ids))
    }

    /// The next image of the class that can be read.
    fn replace(&self, draw: Draw, label: usize) -> Result<Sample> {
        let images = &self.by_class[label];
        let place = images.partition_point(|&index| index < draw.index);
        for step in 1..images.len() {
            let index = images[(place + step) % images.len()];
            match self.read_exactly(Draw { index, ..draw }, label) {
                Err(DataError::Image { .. }) => {}
                found => return found,
            }
        }
        Err(DataError::EmptyClass { class: label, name: self.info.classes[label].clone() })
    }

    fn read_exactly(&self, draw: Draw, label: usize) -> Result<Sample> {
        let mut stream = Stream::new(self.seed, "data.augment", draw.number);
        let mirrored = self.source.versions() > 1 && self.augment.flips(&mut stream);
        let values = match self.source.read(draw.index, usize::from(mirrored))? {
            Item::Numbers(numbers) => Values::Numbers(numbers),
            Item::Picture(picture) => {
                let image = self.augment.apply(picture, self.info.shape, &mut stream);
                let image = image.ok_or_else(|| DataError::image(self.source.name(draw.index), "has no pixels"))?;
                Values::Bytes(image.into_planes())
            }
        };
        let (found, expected) = match &values {
            Values::Bytes(bytes) => (bytes.len(), self.info.shape.len()),
            Values::Numbers(numbers) => (numbers.len(), self.info.shape.len()),
        };
        match found == expected {
            true => Ok(Sample { draw, label, values }),
            false => {
                let problem = format!("holds {found} numbers, expected {expected}");
                Err(DataError::image(self.source.name(draw.index), problem))
            }
        }
    }
}

/// Refuses what augmentation cannot do: latents of another shape, or to be cropped or mirrored.
fn check(source: &dyn Source, shape: ImageShape, augment: &Augment) -> Result<()> {
    let sizes = |shape: ImageShape| format!("{} x {} x {}", shape.channels, shape.height, shape.width);
    // One image tells whether they are pictures: a damaged first one is reported when it is drawn.
    let numbers = matches!(source.read(0, 0), Ok(Item::Numbers(_)));
    match source.shape() {
        Some(found) if found != shape && (numbers || augment.crop == Crop::Fit) => Err(DataError::Setting {
            key: "data",
            problem: format!("the images are {}, but the network is set to {}", sizes(found), sizes(shape)),
        }),
        _ if numbers && augment.crop != Crop::Fit => Err(DataError::Setting {
            key: "augment.crop",
            problem: "latents cannot be cropped: encode the crops that are wanted".to_owned(),
        }),
        _ if numbers && augment.flip && source.versions() < 2 => Err(DataError::Setting {
            key: "augment.flip",
            problem: "these latents were stored without their mirror images".to_owned(),
        }),
        _ if !numbers && !matches!(shape.channels, 1 | 3) => Err(DataError::Setting {
            key: "data",
            problem: format!(
                "the source holds pictures of 1 or 3 channels, but the network is set to {}",
                shape.channels
            ),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::sources::{ClassFolders, testing::png};
    use super::*;

    const GREY: ImageShape = ImageShape { channels: 1, height: 4, width: 4 };

    fn folders(damaged: bool) -> (tempfile::TempDir, Images) {
        let folder = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            fs::create_dir(folder.path().join(class)).unwrap();
            for level in 0..4u8 {
                let file = folder.path().join(class).join(format!("{level}.png"));
                fs::write(file, if damaged && level < 2 { b"no image".to_vec() } else { png(level) }).unwrap();
            }
        }
        let source = Arc::new(ClassFolders::open(folder.path()).unwrap());
        (folder, Images::new(source, GREY, Augment::default(), 1).unwrap())
    }

    #[test]
    fn damaged_images_are_named_or_replaced_within_their_class() {
        let (folder, images) = folders(true);
        let draw = |index| Draw { index, number: 9 };
        let error = images.read(draw(4)).unwrap_err().to_string();
        assert!(error.contains("b/0.png: "), "{error}");
        let images = images.on_bad(OnBad::Skip);
        for (index, found) in [(0, 2), (1, 2), (2, 2), (4, 6), (5, 6), (7, 7)] {
            let sample = images.read(draw(index)).unwrap();
            assert_eq!((sample.draw.index, sample.label), (found, index / 4));
            assert_eq!(sample.values, Values::Bytes(vec![(found % 4) as u8; 16]));
        }
        for level in [2, 3] {
            fs::write(folder.path().join(format!("a/{level}.png")), "no").unwrap();
        }
        assert_eq!(images.read(draw(0)).unwrap_err().to_string(), "class 0 (a) has no image");
        assert!(images.read(draw(6)).is_ok());
    }

    #[test]
    fn an_image_is_a_function_of_seed_index_and_number() {
        let data = super::super::DataSource::default().open(ImageShape { height: 28, width: 28, ..GREY }).unwrap().0;
        let data: Arc<dyn Source> = Arc::new(data);
        let augment = Augment { crop: Crop::Random, flip: true, ..Augment::default() };
        let images = |seed| Images::new(Arc::clone(&data), GREY, augment, seed).unwrap();
        let read = |seed, index, number| images(seed).read(Draw { index, number }).unwrap().values;
        assert_eq!(read(1, 5, 9), read(1, 5, 9));
        for other in [read(2, 5, 9), read(1, 6, 9), read(1, 5, 10)] {
            assert_ne!(read(1, 5, 9), other);
        }
        let wide = ImageShape { width: 5, ..GREY };
        let error = Images::new(Arc::clone(&data), wide, Augment::default(), 1).unwrap_err().to_string();
        assert_eq!(error, "data: the images are 1 x 28 x 28, but the network is set to 1 x 4 x 5");
    }
}
