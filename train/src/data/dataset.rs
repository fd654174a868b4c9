//! Labelled images in memory.

use candle_core::{Device, Tensor};
use drifting_spec::ImageShape;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::{DataError, DataInfo, Picture, Result};

/// Labelled images of one shape, at least one of each class, held as bytes.
#[derive(Clone, Debug)]
pub struct Dataset {
    shape: ImageShape,
    /// Image after image, each `[channels, height, width]`.
    pixels: Vec<u8>,
    labels: Vec<usize>,
    classes: Vec<String>,
    by_class: Vec<Vec<usize>>,
    sha256: String,
}

impl Dataset {
    /// A data set of `labels.len()` images, each `[channels, height, width]` bytes of `pixels`, of the named classes.
    ///
    /// # Errors
    /// No images, too few or too many pixels, a label beyond the classes, a class without images.
    pub fn new(shape: ImageShape, pixels: Vec<u8>, labels: Vec<usize>, classes: Vec<String>) -> Result<Self> {
        if labels.is_empty() || shape.is_empty() {
            return Err(DataError::Inconsistent("there are no images".into()));
        }
        if labels.len().checked_mul(shape.len()) != Some(pixels.len()) {
            let (images, size) = (labels.len(), shape.len());
            let problem = format!("{} pixels for {images} images of {size} numbers", pixels.len());
            return Err(DataError::Inconsistent(problem));
        }
        let mut by_class = vec![Vec::new(); classes.len()];
        for (index, &label) in labels.iter().enumerate() {
            let Some(images) = by_class.get_mut(label) else {
                let problem = format!("image {index} has label {label}, but there are {} classes", classes.len());
                return Err(DataError::Inconsistent(problem));
            };
            images.push(index);
        }
        if let Some(class) = by_class.iter().position(Vec::is_empty) {
            return Err(DataError::EmptyClass { class, name: classes[class].clone() });
        }
        let sha256 = checksum(shape, &pixels, &labels, &classes);
        Ok(Self { shape, pixels, labels, classes, by_class, sha256 })
    }

    /// Shape of each image.
    #[must_use]
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Number of images; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The class of each image.
    #[must_use]
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Names of the classes.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The images of a class; none for a class that does not exist.
    #[must_use]
    pub fn of_class(&self, class: usize) -> &[usize] {
        self.by_class.get(class).map_or(&[], Vec::as_slice)
    }

    /// SHA-256 of shape, classes, labels and pixels in hexadecimal: two data sets with the same one train alike.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Shape, classes, number and checksum.
    #[must_use]
    pub fn info(&self) -> DataInfo {
        let (images, sha256) = (self.len(), self.sha256.clone());
        DataInfo { shape: self.shape, classes: self.classes.clone(), images, sha256 }
    }

    /// The image at `index`; `None` beyond the end.
    #[must_use]
    pub fn picture(&self, index: usize) -> Option<Picture> {
        let (size, start) = (self.shape.len(), index.checked_mul(self.shape.len())?);
        Picture::new(self.shape, self.pixels.get(start..start + size)?.to_vec())
    }

    /// The images at `indices` as numbers in [-1, 1], `[indices, channels, height, width]`. Indices wrap around at the
    /// number of images.
    #[must_use]
    pub fn images(&self, indices: &[usize]) -> Vec<f32> {
        let size = self.shape.len();
        let mut images = vec![0.0; indices.len() * size];
        images.par_chunks_mut(size).with_min_len(64).zip(indices).for_each(|(image, &index)| {
            let start = index % self.labels.len() * size;
            for (value, &pixel) in image.iter_mut().zip(&self.pixels[start..start + size]) {
                *value = f32::from(pixel) / 127.5 - 1.0;
            }
        });
        images
    }

    /// The images at `indices` as a tensor `[indices, channels, height, width]` in [-1, 1].
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn tensor(&self, indices: &[usize], device: &Device) -> Result<Tensor> {
        let ImageShape { channels, height, width } = self.shape;
        Ok(Tensor::from_vec(self.images(indices), (indices.len(), channels, height, width), device)?)
    }

    /// Splits off every `every`-th image of each class: (the rest, the split-off ones).
    ///
    /// # Errors
    /// A class with fewer than `every` images, or an `every` below 2.
    pub fn hold_out(&self, every: usize) -> Result<(Self, Self)> {
        if every < 2 {
            return Err(DataError::Inconsistent(format!("every {every}th image is held out, expected at least 2")));
        }
        let (mut held, mut rest) = (Vec::new(), Vec::new());
        for (position, &index) in self.by_class.iter().flat_map(|images| images.iter().enumerate()) {
            if (position + 1).is_multiple_of(every) { held.push(index) } else { rest.push(index) }
        }
        Ok((self.subset(&rest)?, self.subset(&held)?))
    }

    fn subset(&self, indices: &[usize]) -> Result<Self> {
        let size = self.shape.len();
        let pixels = indices.iter().flat_map(|&index| &self.pixels[index * size..(index + 1) * size]).copied();
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        Self::new(self.shape, pixels.collect(), labels, self.classes.clone())
    }
}

fn checksum(shape: ImageShape, pixels: &[u8], labels: &[usize], classes: &[String]) -> String {
    let mut hash = Sha256::new();
    for number in [shape.channels, shape.height, shape.width, labels.len(), classes.len()] {
        hash.update((number as u64).to_le_bytes());
    }
    for name in classes {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
    }
    for &label in labels {
        hash.update((label as u64).to_le_bytes());
    }
    hash.update(pixels);
    hex(&hash.finalize())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape { channels: 1, height: 1, width: 2 };

    fn names() -> Vec<String> {
        vec!["cat".into(), "dog".into()]
    }

    #[test]
    fn images_are_found_by_index_and_by_class() {
        let data = Dataset::new(SHAPE, vec![0, 255, 51, 102, 204, 0], vec![1, 0, 1], names()).unwrap();
        assert_eq!((data.len(), data.of_class(1), data.of_class(2)), (3, &[0, 2][..], &[][..]));
        assert_eq!(data.images(&[2, 0]), [0.6, -1.0, -1.0, 1.0]);
        assert_eq!(data.tensor(&[1], &Device::Cpu).unwrap().dims(), [1, 1, 1, 2]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let message = |pixels: usize, labels: &[usize]| {
            Dataset::new(SHAPE, vec![0; pixels], labels.to_vec(), names()).unwrap_err().to_string()
        };
        assert_eq!(message(0, &[]), "data set: there are no images");
        assert_eq!(message(3, &[0, 1]), "data set: 3 pixels for 2 images of 2 numbers");
        assert_eq!(message(4, &[0, 2]), "data set: image 1 has label 2, but there are 2 classes");
        assert_eq!(message(4, &[0, 0]), "class 1 (dog) has no image");
    }

    #[test]
    fn the_checksum_sees_every_part() {
        let make = |pixel, label, name: &str| {
            Dataset::new(SHAPE, vec![pixel; 6], vec![0, 1, label], vec![name.into(), "dog".into()]).unwrap()
        };
        let first = make(1, 0, "cat");
        assert_eq!(first.sha256(), make(1, 0, "cat").sha256());
        for other in [make(2, 0, "cat"), make(1, 1, "cat"), make(1, 0, "cow")] {
            assert_ne!(first.sha256(), other.sha256());
        }
    }

    #[test]
    fn held_out_images_come_from_every_class() {
        let data = Dataset::new(SHAPE, (0..16).collect(), vec![0, 0, 0, 0, 1, 1, 1, 1], names()).unwrap();
        let (rest, held) = data.hold_out(4).unwrap();
        assert_eq!((rest.len(), held.labels()), (6, &[0, 1][..]));
        assert_eq!(held.images(&[0]), data.images(&[3]));
        assert!(data.hold_out(5).is_err() && data.hold_out(1).is_err());
    }
}
