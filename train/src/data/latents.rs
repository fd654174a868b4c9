//! Encoding a data set once, so that a generator can be trained on its latents.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use drifting_models::autoencoder::{self, Autoencoder};
use drifting_models::weights;
use drifting_spec::{ImageShape, Stream};
use sha2::{Digest, Sha256};

use super::dataset::hex;
use super::sources::{LABELS, MANIFEST, MIRRORED, PLAN, ROWS, ShardEntry, ShardManifest};
use super::{Ahead, DataError, Draw, Images, Result};
use crate::config::LoaderSettings;

/// Tensor with the index of each image in the source.
const IDS: &str = "ids";
/// Header entry of a shard: SHA-256 of the plan that it belongs to.
const PLAN_ENTRY: &str = "plan";

/// Opens an autoencoder: a folder as [`autoencoder::open`] takes it.
///
/// # Errors
/// Files that are missing or do not fit, by name.
pub fn open_autoencoder(folder: &Path) -> Result<Box<dyn Autoencoder>> {
    Ok(autoencoder::open(folder, &Device::Cpu)?)
}

/// How a data set is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentSettings {
    /// Images that go through the autoencoder at once.
    pub batch: usize,
    /// Images of a shard.
    pub shard: usize,
    /// Whether the mirror image of each image is encoded, too.
    pub mirrored: bool,
    /// Stores halves instead of single floats.
    pub half: bool,
    /// Seed of the posterior's noise.
    pub seed: u64,
    /// Threads that read ahead.
    pub loader: LoaderSettings,
}

impl Default for LatentSettings {
    fn default() -> Self {
        let loader = LoaderSettings::default();
        Self { batch: 16, shard: 4096, mirrored: true, half: false, seed: 42, loader }
    }
}

/// Encodes images into shards that [`TensorShards`](super::sources::TensorShards) reads.
#[derive(Debug)]
pub struct LatentWriter<'a> {
    images: Arc<Images>,
    autoencoder: &'a dyn Autoencoder,
    settings: LatentSettings,
    plan: ShardManifest,
}

impl<'a> LatentWriter<'a> {
    /// Plans the encoding of `images`, whose augmentation must not be random; `transform` says in words what it is.
    ///
    /// # Errors
    /// Images that the autoencoder does not take.
    pub fn new(
        images: Arc<Images>,
        autoencoder: &'a dyn Autoencoder,
        settings: LatentSettings,
        transform: &str,
    ) -> Result<Self> {
        let info = images.info();
        let latent = autoencoder.latent_shape(info.shape)?;
        let count = info.images;
        let shard = settings.shard.max(1);
        let entry = |number: usize| ShardEntry {
            file: format!("shard-{number:05}.safetensors"),
            images: shard.min(count - number * shard),
            sha256: String::new(),
        };
        let plan = ShardManifest {
            images: count,
            classes: info.classes.clone(),
            per_class: images.by_class().iter().map(Vec::len).collect(),
            shape: [latent.channels, latent.height, latent.width],
            dtype: if settings.half { "f16" } else { "f32" }.to_owned(),
            mirrored: settings.mirrored,
            transform: transform.to_owned(),
            autoencoder: autoencoder.name().to_owned(),
            autoencoder_sha256: autoencoder.sha256().to_owned(),
            source_sha256: info.sha256.clone(),
            seed: settings.seed,
            replaced: 0,
            shards: (0..count.div_ceil(shard)).map(entry).collect(),
        };
        Ok(Self { images, autoencoder, settings, plan })
    }

    /// What will be written; the shards' checksums are still empty.
    #[must_use]
    pub fn plan(&self) -> &ShardManifest {
        &self.plan
    }

    /// Bytes of all latents.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let versions = 1 + usize::from(self.settings.mirrored);
        let number = if self.settings.half { 2 } else { 4 };
        self.plan.images * self.plan.shape.iter().product::<usize>() * versions * number
    }

    /// Encodes the first batch and throws it away: for an estimate of the time. Returns the images that it took.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn try_batch(&self) -> Result<usize> {
        let rows = self.settings.batch.max(1).min(self.plan.images);
        let draws: Vec<Draw> = (0..rows).map(|index| Draw { index, number: index as u64 }).collect();
        let (numbers, ids) = self.images.read_all(&draws)?;
        self.encode(numbers, &ids)?;
        Ok(rows)
    }

    /// Writes the shards and then the manifest into `folder`. Shards that are there and whole are kept, so that the same
    /// call goes on after a kill. `progress` hears how many images are done.
    ///
    /// # Errors
    /// A folder with latents of other data or settings, images that cannot be read, a full disk.
    pub fn write(&self, folder: &Path, mut progress: impl FnMut(usize)) -> Result<ShardManifest> {
        fs::create_dir_all(folder).map_err(|source| DataError::Io { path: folder.to_owned(), source })?;
        let plan = self.check_plan(folder)?;
        let (batch, shard) = (self.settings.batch.max(1), self.settings.shard.max(1));
        let (images, total) = (Arc::clone(&self.images), self.plan.images);
        // Batches do not cross the border of a shard.
        let per_shard = shard.div_ceil(batch) as u64;
        let read = move |number: u64| {
            let (of_shard, place) = ((number / per_shard) as usize, (number % per_shard) as usize);
            let first = of_shard * shard + place * batch;
            let last = (first + batch).min((of_shard + 1) * shard).min(total);
            let draws: Vec<Draw> = (first..last).map(|index| Draw { index, number: index as u64 }).collect();
            images.read_all(&draws)
        };
        let mut batches = Ahead::new(self.settings.loader.threads(false), self.settings.loader.ahead, read);
        let mut manifest = self.plan.clone();
        let mut done = 0;
        for (number, entry) in manifest.shards.iter_mut().enumerate() {
            let path = folder.join(&entry.file);
            let (sha256, ids) = match finished(&path, &plan, entry.images) {
                Some(finished) => finished,
                None => {
                    let mut rows = Rows::default();
                    for part in 0..entry.images.div_ceil(batch) as u64 {
                        let (numbers, ids) = batches.take(number as u64 * per_shard + part)?;
                        let latents = self.encode(numbers, &ids)?;
                        rows.add(latents, ids);
                        progress(done + rows.ids.len());
                    }
                    self.write_shard(&path, rows, &plan)?
                }
            };
            let first = number * shard;
            manifest.replaced += ids.iter().zip(first as u64..).filter(|(id, expected)| **id != *expected).count();
            entry.sha256 = sha256;
            done += entry.images;
            progress(done);
        }
        let json = serde_json::to_vec_pretty(&manifest).map_err(|error| DataError::file(folder, error.to_string()))?;
        weights::write_bytes(&folder.join(MANIFEST), &json)?;
        let plan = folder.join(PLAN);
        fs::remove_file(&plan).map_err(|source| DataError::Io { path: plan, source })?;
        Ok(manifest)
    }

    /// Writes the plan, or holds this one against what is there. Returns its SHA-256.
    fn check_plan(&self, folder: &Path) -> Result<String> {
        let json = serde_json::to_value(&self.plan).map_err(|error| DataError::file(folder, error.to_string()))?;
        for name in [PLAN, MANIFEST] {
            let path = folder.join(name);
            let Ok(bytes) = fs::read(&path) else { continue };
            let found: ShardManifest =
                serde_json::from_slice(&bytes).map_err(|error| DataError::file(&path, error.to_string()))?;
            let found = serde_json::to_value(unwritten(found)).unwrap_or_default();
            let differs = |key: &&String| found.get(key) != json.get(key);
            if let Some(key) = json.as_object().into_iter().flat_map(|keys| keys.keys()).find(differs) {
                let problem = match key.as_str() {
                    "shards" => "was written with other shards (--shard)".to_owned(),
                    "classes" | "per_class" => "was written from data with other classes".to_owned(),
                    key => format!("was written with {key} {}, now it is {}", found[key], json[key]),
                };
                return Err(DataError::file(&path, format!("{problem}: choose another folder")));
            }
        }
        let bytes =
            serde_json::to_vec_pretty(&self.plan).map_err(|error| DataError::file(folder, error.to_string()))?;
        weights::write_bytes(&folder.join(PLAN), &bytes)?;
        Ok(hex(&Sha256::digest(&bytes)))
    }

    /// The latents of images and, if they are wanted, of their mirror images. The noise of each is a function of its index.
    fn encode(&self, mut numbers: Vec<f32>, ids: &[u64]) -> Result<Vec<Tensor>> {
        let ImageShape { channels, height, width } = self.images.info().shape;
        let mut latents = Vec::new();
        for version in 0..1 + u64::from(self.settings.mirrored) {
            if version == 1 {
                numbers.chunks_exact_mut(width).for_each(<[f32]>::reverse);
            }
            let images = Tensor::from_slice(&numbers, (ids.len(), channels, height, width), &Device::Cpu)?;
            let stream = |id: &u64| Stream::new(self.settings.seed, "latents.posterior", 2 * id + version);
            let mut streams: Vec<Stream> = ids.iter().map(stream).collect();
            latents.push(self.autoencoder.sample(&images, &mut streams)?.detach());
        }
        Ok(latents)
    }

    fn write_shard(&self, path: &Path, rows: Rows, plan: &str) -> Result<(String, Vec<u64>)> {
        let dtype = if self.settings.half { DType::F16 } else { DType::F32 };
        let mut tensors = BTreeMap::new();
        for (name, parts) in [ROWS[0], MIRRORED].into_iter().zip(&rows.versions) {
            let whole = Tensor::cat(parts, 0)?;
            check_finite(path, &whole)?;
            tensors.insert(name.to_owned(), whole.to_dtype(dtype)?);
        }
        let labels = rows.ids.iter().map(|&id| self.images.source().label(id as usize) as i64);
        let labels: Vec<i64> = labels.collect();
        let ids: Vec<i64> = rows.ids.iter().map(|&id| id as i64).collect();
        tensors.insert(LABELS.to_owned(), Tensor::new(labels, &Device::Cpu)?);
        tensors.insert(IDS.to_owned(), Tensor::new(ids, &Device::Cpu)?);
        let metadata = BTreeMap::from([(PLAN_ENTRY.to_owned(), plan.to_owned())]);
        Ok((weights::write(path, &tensors, &metadata)?, rows.ids))
    }
}

/// What was encoded of a shard.
#[derive(Default)]
struct Rows {
    /// Batches of latents, then of those of the mirror images.
    versions: Vec<Vec<Tensor>>,
    ids: Vec<u64>,
}

impl Rows {
    fn add(&mut self, latents: Vec<Tensor>, ids: Vec<u64>) {
        self.versions.resize_with(latents.len(), Vec::new);
        self.versions.iter_mut().zip(latents).for_each(|(parts, part)| parts.push(part));
        self.ids.extend(ids);
    }
}

fn check_finite(path: &Path, latents: &Tensor) -> Result<()> {
    match latents.flatten_all()?.to_vec1::<f32>()?.iter().all(|number| number.is_finite()) {
        true => Ok(()),
        false => Err(DataError::file(path, "the autoencoder made a number that is not finite")),
    }
}

/// Checksum and image indices of a shard that is there, whole and of this plan.
fn finished(path: &Path, plan: &str, images: usize) -> Option<(String, Vec<u64>)> {
    let file = weights::read(path, &Device::Cpu).ok()?;
    let ids = file.tensors.get(IDS)?.to_vec1::<i64>().ok()?;
    let right = file.metadata.get(PLAN_ENTRY).is_some_and(|found| found == plan) && ids.len() == images;
    right.then(|| (file.sha256, ids.into_iter().map(|id| id as u64).collect()))
}

/// A manifest as it was planned.
fn unwritten(mut manifest: ShardManifest) -> ShardManifest {
    manifest.replaced = 0;
    manifest.shards.iter_mut().for_each(|shard| shard.sha256.clear());
    manifest
}

#[cfg(test)]
mod tests;
