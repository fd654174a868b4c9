//! How networks rank known damage of CIFAR-10's test images.

use std::io::Cursor;

use candle_core::{Device, Tensor};
use drifting_spec::{ImageShape, Stream};
use drifting_train::data::{DataSource, Dataset};
use drifting_train::eval::{EvalError, Gaussian, Network, Pixels, frechet_distance};
use image::codecs::jpeg::JpegEncoder;
use serde::Serialize;

/// Anything that goes wrong ends the program.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Images of each set.
pub(crate) const IMAGES: usize = 2000;
const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };

/// Fréchet distances of 2000 test images, whole or damaged, from 2000 training images.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) network: String,
    pub(crate) distance: String,
    pub(crate) sha256: String,
    pub(crate) preparation: String,
    /// Checksums of all training and of all test images.
    pub(crate) data_sha256: [String; 2],
    /// Share of all 10,000 test images that are recognised, where the network knows the classes.
    pub(crate) accuracy: Option<f64>,
    /// What was done to the test images, and the distance.
    pub(crate) distances: Vec<(&'static str, f64)>,
    /// The distance without each class, whose mean is the one of `one class dropped`.
    pub(crate) dropped: Vec<(String, f64)>,
}

/// The first images of both parts of CIFAR-10, as its published files have them.
pub(crate) struct Cifar10 {
    train: Dataset,
    test: Dataset,
}

impl Cifar10 {
    pub(crate) fn open(folder: &str) -> Result<Self> {
        let source = DataSource::path(folder);
        let (train, _) = source.open(SHAPE)?;
        let (test, _) = source.open_test(&train)?.ok_or("no test images")?;
        Ok(Self { train, test })
    }

    /// Lets `network` look at all of it.
    pub(crate) fn row(&self, network: &dyn Network) -> Result<Row> {
        let all: Vec<usize> = (0..self.test.len()).collect();
        let first = &all[..IMAGES];
        let reference = Gaussian::of(&look(network, levels(&self.train, first))?.0)?;
        let distance = |features: &Tensor| -> std::result::Result<f64, EvalError> {
            frechet_distance(&reference, &Gaussian::of(features)?)
        };
        let (features, logits) = look(network, levels(&self.test, &all))?;
        // The first images of the classes that are kept.
        let kept = |keep: &dyn Fn(usize) -> bool| -> Result<f64> {
            let labels = (0u32..).zip(self.test.labels()).filter(|(_, label)| keep(**label));
            let indices: Vec<u32> = labels.map(|(index, _)| index).take(IMAGES).collect();
            Ok(distance(&features.index_select(&Tensor::new(indices, &Device::Cpu)?, 0)?)?)
        };
        let classes = self.test.classes();
        let without = |class: usize| Ok((classes[class].clone(), kept(&|label| label != class)?));
        let dropped: Vec<(String, f64)> = (0..classes.len()).map(without).collect::<Result<_>>()?;
        let mean = dropped.iter().map(|(_, distance)| distance).sum::<f64>() / dropped.len() as f64;

        let whole = levels(&self.test, first);
        let mut stream = Stream::new(1, "pure noise", 0);
        let damaged = [
            ("JPEG q75", each(&whole, jpeg)?),
            ("noise 10/255", noisy(&whole)),
            ("2x blur", each(&whole, |image| Ok(blurred(image)))?),
            ("pure noise", whole.iter().map(|_| stream.below(256) as u8).collect()),
        ];
        let mut distances = vec![
            ("none", kept(&|_| true)?),
            ("one class dropped", mean),
            ("5 classes only", kept(&|label| label < 5)?),
        ];
        for (damage, levels) in damaged {
            distances.push((damage, distance(&look(network, levels)?.0)?));
        }
        Ok(Row {
            network: network.name().to_owned(),
            distance: network.distance_name(),
            sha256: network.sha256().to_owned(),
            preparation: network.preparation(),
            data_sha256: [&self.train, &self.test].map(|data| data.sha256().to_owned()),
            accuracy: (network.classes() == classes.len()).then(|| self.accuracy(&logits)).transpose()?,
            distances,
            dropped,
        })
    }

    fn accuracy(&self, logits: &Tensor) -> Result<f64> {
        let classes = logits.argmax(1)?.to_vec1::<u32>()?;
        let right = classes.iter().zip(self.test.labels()).filter(|(found, label)| **found as usize == **label).count();
        Ok(right as f64 / classes.len() as f64)
    }
}

fn levels(data: &Dataset, indices: &[usize]) -> Vec<u8> {
    // Exact: the levels are whole numbers.
    data.images(indices).into_iter().map(|value| ((value + 1.0) * 127.5).round() as u8).collect()
}

/// Features and logits.
fn look(network: &dyn Network, levels: Vec<u8>) -> Result<(Tensor, Tensor)> {
    let shape = (levels.len() / SHAPE.len(), SHAPE.channels, SHAPE.height, SHAPE.width);
    let sight = network.look(&Pixels { images: Tensor::from_vec(levels, shape, &Device::Cpu)? })?;
    Ok((sight.features, sight.logits))
}

fn each(images: &[u8], damage: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let images: Vec<Vec<u8>> = images.chunks_exact(SHAPE.len()).map(damage).collect::<Result<_>>()?;
    Ok(images.concat())
}

/// There and back by a file of quality 75, whose colours are as fine as its brightness.
fn jpeg(image: &[u8]) -> Result<Vec<u8>> {
    let plane = SHAPE.height * SHAPE.width;
    let pixels: Vec<u8> = (0..plane).flat_map(|i| [image[i], image[plane + i], image[2 * plane + i]]).collect();
    let mut file = Vec::new();
    let (width, height) = (SHAPE.width as u32, SHAPE.height as u32);
    JpegEncoder::new_with_quality(&mut file, 75).encode(&pixels, width, height, image::ExtendedColorType::Rgb8)?;
    let found = image::ImageReader::with_format(Cursor::new(file), image::ImageFormat::Jpeg).decode()?.into_rgb8();
    Ok((0..3).flat_map(|channel| found.as_raw()[channel..].iter().step_by(3).copied()).collect())
}

/// Normal noise with a deviation of 10 levels.
fn noisy(images: &[u8]) -> Vec<u8> {
    let noise = Stream::new(1, "noise", 0).normals(images.len());
    let level = |(level, noise): (&u8, f32)| (f32::from(*level) + 10.0 * noise).round().clamp(0.0, 255.0) as u8;
    images.iter().zip(noise).map(level).collect()
}

/// Halved by means of 2 x 2 and enlarged again, bilinearly.
fn blurred(image: &[u8]) -> Vec<u8> {
    let ImageShape { height, width, .. } = SHAPE;
    let mut blurred = Vec::with_capacity(image.len());
    for plane in image.chunks_exact(height * width) {
        let level = |y: usize, x: usize| f32::from(plane[y * width + x]);
        let half = |y: usize, x: usize| {
            let (y, x) = (2 * y.min(height / 2 - 1), 2 * x.min(width / 2 - 1));
            (level(y, x) + level(y, x + 1) + level(y + 1, x) + level(y + 1, x + 1)) / 4.0
        };
        // The two nearest of the smaller image's lines, and the share of the second.
        let between = |i: usize| {
            if i.is_multiple_of(2) { ((i / 2).saturating_sub(1), i / 2, 0.75) } else { (i / 2, i / 2 + 1, 0.25) }
        };
        for y in 0..height {
            let (above, below, down) = between(y);
            for x in 0..width {
                let (left, right, across) = between(x);
                let row = |y| half(y, left) * (1.0 - across) + half(y, right) * across;
                blurred.push((row(above) * (1.0 - down) + row(below) * down).round() as u8);
            }
        }
    }
    blurred
}
