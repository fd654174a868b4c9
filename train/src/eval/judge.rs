//! A small classifier that says what a generated image shows.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use drifting_models::nn::{Builder, Init, Params, Source};
use drifting_models::ops::{Conv, conv2d};
use drifting_models::weights;
use drifting_spec::ImageShape;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pool::relu_max_pool;
use super::{EvalError, Network, Pixels, Result, Sight};

/// Width of the feature layer.
pub const FEATURES: usize = 128;

/// Channels of the two convolutions.
const CHANNELS: [usize; 2] = [24, 48];

/// Images that are judged at a time.
const BATCH: usize = 250;

/// Key of the judge's description in the header of its weight file.
const KEY: &str = "judge";

/// Two convolutions with ReLU and pooling, a feature layer of [`FEATURES`] numbers and a linear classifier, trained on
/// real images. Judging with another network than the one that a generator drifted in keeps the judgement honest.
#[derive(Debug)]
pub struct Judge {
    description: Description,
    params: Params,
    weights: Weights,
    /// Empty in training.
    sha256: String,
}

/// What a judge was made for and from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    shape: ImageShape,
    classes: usize,
    seed: u64,
    epochs: usize,
    data_sha256: String,
}

#[derive(Debug)]
struct Weights {
    /// `[9 * in + 1, out]`, rows by (row, column, channel) of the neighbourhood and then the bias.
    convolutions: [Tensor; 2],
    /// `[pooled numbers, FEATURES]`
    hidden: Tensor,
    hidden_bias: Tensor,
    /// `[FEATURES, classes]`
    out: Tensor,
    out_bias: Tensor,
}

impl Judge {
    /// Untrained weights, or given ones.
    fn build(description: Description, source: Source) -> Result<Self> {
        let ImageShape { channels, height, width } = description.shape;
        if height < 4 || width < 4 {
            return Err(EvalError::Samples(format!("judge: images are {height} x {width}, expected at least 4 x 4")));
        }
        let builder = Builder::new(source, &Device::Cpu);
        // He's initialisation: the next thing is a ReLU.
        let normal = |fan_in: usize| Init::Normal((2.0 / fan_in as f64).sqrt());
        let convolution = |name: &str, inputs: usize, outputs: usize| {
            builder.param(name, &[9 * inputs + 1, outputs], normal(9 * inputs))
        };
        let pooled = (height / 4) * (width / 4) * CHANNELS[1];
        let weights = Weights {
            convolutions: [
                convolution("conv.0.weight", channels, CHANNELS[0])?,
                convolution("conv.1.weight", CHANNELS[0], CHANNELS[1])?,
            ],
            hidden: builder.param("hidden.weight", &[pooled, FEATURES], normal(pooled))?,
            hidden_bias: builder.param("hidden.bias", &[FEATURES], Init::Zeros)?,
            out: builder.param("out.weight", &[FEATURES, description.classes], Init::Xavier)?,
            out_bias: builder.param("out.bias", &[description.classes], Init::Zeros)?,
        };
        Ok(Self { description, params: builder.finish()?, weights, sha256: String::new() })
    }

    /// Fills in the hash: the weights change no more.
    pub(super) fn finished(mut self) -> Result<Self> {
        let mut hash = Sha256::new();
        for (name, var) in self.params.iter() {
            hash.update(name);
            for value in var.flatten_all()?.to_vec1::<f32>()? {
                hash.update(value.to_le_bytes());
            }
        }
        self.sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self)
    }

    pub(super) fn untrained(
        shape: ImageShape,
        classes: usize,
        (seed, epochs): (u64, usize),
        data_sha256: &str,
    ) -> Result<Self> {
        let description = Description { shape, classes, seed, epochs, data_sha256: data_sha256.to_owned() };
        Self::build(description, Source::Seed(seed))
    }

    pub(super) fn params(&self) -> &Params {
        &self.params
    }

    /// Shape of the images that it judges.
    #[must_use]
    pub fn shape(&self) -> ImageShape {
        self.description.shape
    }

    /// Number of classes that it knows.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.description.classes
    }

    /// [`Dataset::sha256`](crate::data::Dataset::sha256) of the images that it was trained on.
    #[must_use]
    pub fn data_sha256(&self) -> &str {
        &self.description.data_sha256
    }

    /// The seed that it was trained with.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.description.seed
    }

    /// Writes the judge to a safetensors file. Returns its SHA-256.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn save(&self, path: &Path) -> Result<String> {
        let file = |error: serde_json::Error| EvalError::File { path: path.to_owned(), problem: error.to_string() };
        let description = serde_json::to_string(&self.description).map_err(file)?;
        Ok(weights::write(path, &self.params.tensors(), &BTreeMap::from([(KEY.to_owned(), description)]))?)
    }

    /// Reads a judge.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self> {
        let file = |problem: String| EvalError::File { path: path.to_owned(), problem };
        let found = weights::read(path, &Device::Cpu)?;
        let Some(description) = found.metadata.get(KEY) else {
            return Err(file(format!("has no entry {KEY:?} in its header: it holds no judge")));
        };
        let description = serde_json::from_str(description).map_err(|error| file(format!("{KEY}: {error}")))?;
        let judge = Self::build(description, Source::Tensors(found.tensors)).and_then(Self::finished);
        judge.map_err(|error| file(error.to_string()))
    }

    /// Features after the ReLU, `[batch, FEATURES]`, of one batch `[batch, channels, height, width]`.
    pub(super) fn forward_features(&self, images: &Tensor) -> Result<Tensor> {
        let mut images = images.permute((0, 2, 3, 1))?;
        for weight in &self.weights.convolutions {
            images = relu_max_pool(&convolve(&images, weight)?)?;
        }
        Ok(images.flatten_from(1)?.matmul(&self.weights.hidden)?.broadcast_add(&self.weights.hidden_bias)?.relu()?)
    }

    /// Scores of the classes, `[batch, classes]`.
    pub(super) fn classify(&self, features: &Tensor) -> Result<Tensor> {
        Ok(features.matmul(&self.weights.out)?.broadcast_add(&self.weights.out_bias)?)
    }

    /// Features `[n, FEATURES]` of images `[n, channels, height, width]` in [-1, 1].
    ///
    /// # Errors
    /// Images of another shape, or none.
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        let ImageShape { channels, height, width } = self.description.shape;
        let count = images.dim(0)?;
        if images.dims() != [count, channels, height, width] || count == 0 {
            let problem = format!("judge: images are {:?}, expected [n, {channels}, {height}, {width}]", images.dims());
            return Err(EvalError::Samples(problem));
        }
        let batch = |start| self.forward_features(&images.narrow(0, start, BATCH.min(count - start))?.detach());
        let features = (0..count).step_by(BATCH).map(|start| Ok(batch(start)?.detach())).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&features, 0)?)
    }

    /// The class that each of these images, `[n, channels, height, width]` in [-1, 1], most likely shows.
    ///
    /// # Errors
    /// Images of another shape, or none.
    pub fn recognise(&self, images: &Tensor) -> Result<Vec<usize>> {
        self.recognise_features(&self.features(images)?)
    }

    /// The same from the features of the images.
    pub(super) fn recognise_features(&self, features: &Tensor) -> Result<Vec<usize>> {
        let classes = self.classify(features)?.argmax(1)?.to_vec1::<u32>()?;
        Ok(classes.into_iter().map(|class| class as usize).collect())
    }

    /// Share of images `[n, channels, height, width]` in [-1, 1] that are recognised as what `labels` says.
    ///
    /// # Errors
    /// Images of another shape, none, or as many labels as there are not images.
    pub fn accuracy(&self, images: &Tensor, labels: &[usize]) -> Result<f64> {
        let found = self.recognise(images)?;
        if found.len() != labels.len() {
            return Err(EvalError::Samples(format!("judge: {} images with {} labels", found.len(), labels.len())));
        }
        let right = found.iter().zip(labels).filter(|(found, label)| found == label).count();
        Ok(right as f64 / labels.len() as f64)
    }
}

impl Network for Judge {
    fn name(&self) -> &str {
        "judge"
    }

    /// Of names and values, the same for a judge that was trained and one that was read.
    fn sha256(&self) -> &str {
        &self.sha256
    }

    fn features(&self) -> usize {
        FEATURES
    }

    fn classes(&self) -> usize {
        self.description.classes
    }

    fn preparation(&self) -> String {
        "level / 127.5 - 1".to_owned()
    }

    fn distance_name(&self) -> String {
        "fd-judge".to_owned()
    }

    fn look(&self, images: &Pixels) -> Result<Sight> {
        let images = images.images.to_dtype(DType::F32)?.affine(1.0 / 127.5, -1.0)?;
        let features = Judge::features(self, &images)?;
        let logits = self.classify(&features)?.detach();
        Ok(Sight { features, logits })
    }
}

/// Convolution 3 x 3 of `[batch, height, width, channels]` with weights as [`Weights`] holds them.
fn convolve(images: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let (rows, outputs) = weights.dims2()?;
    let kernel = weights.narrow(0, 0, rows - 1)?.reshape((3, 3, (rows - 1) / 9, outputs))?;
    Ok(conv2d(images, &kernel, Some(&weights.get(rows - 1)?), Conv::new(1, 1))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape { channels: 3, height: 6, width: 5 };

    fn images(count: usize) -> Tensor {
        let values = drifting_spec::Stream::new(1, "images", 0).normals(count * SHAPE.len());
        Tensor::from_vec(values, (count, 3, 6, 5), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_saved_judge_judges_alike() {
        let judge = Judge::untrained(SHAPE, 4, (3, 1), "abc").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("judge.safetensors");
        judge.save(&path).unwrap();
        let loaded = Judge::load(&path).unwrap();
        let features = |judge: &Judge| Judge::features(judge, &images(BATCH + 3)).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(features(&judge), features(&loaded));
        assert_eq!((loaded.seed(), loaded.classes(), loaded.data_sha256()), (3, 4, "abc"));
        weights::write(&path, &judge.params().tensors(), &BTreeMap::new()).unwrap();
        let error = Judge::load(&path).unwrap_err().to_string();
        assert!(error.contains("judge.safetensors: has no entry"), "{error}");
    }

    #[test]
    fn it_sees_levels_as_numbers_and_keeps_its_hash() {
        let judge = Judge::untrained(SHAPE, 4, (3, 1), "abc").unwrap().finished().unwrap();
        let levels: Vec<u8> = (0..180).map(|at| (at * 7 % 256) as u8).collect();
        let images = Tensor::from_vec(levels.clone(), (2, 3, 6, 5), &Device::Cpu).unwrap();
        let sight = judge.look(&Pixels { images }).unwrap();
        let numbers: Vec<f32> = levels.iter().map(|&level| f32::from(level) / 127.5 - 1.0).collect();
        let numbers = Tensor::from_vec(numbers, (2, 3, 6, 5), &Device::Cpu).unwrap();
        let expected = Judge::features(&judge, &numbers).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let found = sight.features.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(found.iter().zip(&expected).all(|(l, r)| (l - r).abs() < 1e-5), "{found:?} {expected:?}");
        assert_eq!((sight.logits.dims(), sight.features.dims()), (&[2, 4][..], &[2, FEATURES][..]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("judge.safetensors");
        judge.save(&path).unwrap();
        assert_eq!((Judge::load(&path).unwrap().sha256(), judge.sha256().len()), (judge.sha256(), 64));
        let other = Judge::untrained(SHAPE, 4, (4, 1), "abc").unwrap().finished().unwrap();
        assert_ne!(other.sha256(), judge.sha256());
    }

    #[test]
    fn an_image_does_not_depend_on_its_batch() {
        let judge = Judge::untrained(SHAPE, 4, (3, 1), "").unwrap();
        let many = Judge::features(&judge, &images(BATCH + 3)).unwrap();
        assert_eq!(many.dims(), [BATCH + 3, FEATURES]);
        let alone = Judge::features(&judge, &images(BATCH + 3).narrow(0, BATCH + 1, 1).unwrap()).unwrap();
        let (alone, many) = (alone.to_vec2::<f32>().unwrap(), many.to_vec2::<f32>().unwrap());
        let worst = alone[0].iter().zip(&many[BATCH + 1]).map(|(l, r)| (l - r).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{worst}");
    }

    #[test]
    fn what_cannot_be_judged_is_an_error() {
        let flat = ImageShape { height: 3, ..SHAPE };
        let error = Judge::untrained(flat, 4, (3, 1), "").unwrap_err().to_string();
        assert_eq!(error, "judge: images are 3 x 5, expected at least 4 x 4");
        let judge = Judge::untrained(SHAPE, 4, (3, 1), "").unwrap();
        assert!(judge.features(&images(2).narrow(1, 0, 1).unwrap()).is_err());
        assert!(judge.accuracy(&images(2), &[0]).unwrap_err().to_string().contains("2 images with 1 labels"));
    }
}
