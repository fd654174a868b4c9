//! Tensor shards: safetensors files of labelled latents or images, read one row at a time.

use std::fs;
use std::path::Path;

use drifting_spec::ImageShape;
use serde::{Deserialize, Serialize};

use super::shard::{Kind, Shard};
use super::{Checksum, Item, Source, class_names, files, no_such_image, read_range};
use crate::data::{DataError, Picture, Result};

/// File that says what the shards of a folder are.
pub const MANIFEST: &str = "manifest.json";

/// The manifest while the shards are being written.
pub const PLAN: &str = "plan.json";

/// What `drifting data latents` writes beside its shards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardManifest {
    /// Images of all shards.
    pub images: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Images of each class.
    pub per_class: Vec<usize>,
    /// Shape of each row.
    pub shape: [usize; 3],
    /// Numbers of the shards: `f32` or `f16`.
    pub dtype: String,
    /// Whether each image's mirror image was encoded, too.
    pub mirrored: bool,
    /// What the images went through before they were encoded.
    pub transform: String,
    /// Name of the autoencoder.
    pub autoencoder: String,
    /// SHA-256 of its weights.
    pub autoencoder_sha256: String,
    /// SHA-256 of the data that were encoded.
    pub source_sha256: String,
    /// Seed of the posterior's noise.
    pub seed: u64,
    /// Damaged images in whose place others of their class were encoded.
    pub replaced: usize,
    /// The shards in order.
    pub shards: Vec<ShardEntry>,
}

/// One shard of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// File name.
    pub file: String,
    /// Images.
    pub images: usize,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// A folder of shards or a single one. Each holds `latents` or `images` `[n, channels, height, width]` (f32, f16, bf16, or
/// u8 for images), `labels` `[n]` (u8, i32, i64) and, where there are mirror images, `mirrored` of the rows' shape.
#[derive(Debug)]
pub struct TensorShards {
    shards: Vec<Shard>,
    /// Number of the first row of each shard.
    starts: Vec<usize>,
    shape: ImageShape,
    labels: Vec<u32>,
    classes: Vec<String>,
    sha256: String,
}

impl TensorShards {
    /// Opens the shards of `path`; only headers and labels are read. A manifest, where there is one, is held against them.
    ///
    /// # Errors
    /// A shard that is cut off or broken, other shapes than those of the first, shards that the manifest does not name.
    pub fn open(path: &Path, prefix: &str) -> Result<Self> {
        let manifest = manifest(path)?;
        let files = files(path, prefix, &["safetensors"])?;
        let shards = files.into_iter().map(Shard::open).collect::<Result<Vec<_>>>()?;
        let (mut starts, mut labels, mut checksum) = (Vec::new(), Vec::new(), Checksum::default());
        let Some(first) = shards.first() else { return Err(DataError::file(path, "holds no shard")) };
        let (shape, kind, mirrored) = (first.shape, first.kind, first.mirrored.is_some());
        for shard in &shards {
            if (shard.shape, shard.kind, shard.mirrored.is_some()) != (shape, kind, mirrored) {
                let problem = format!("holds other tensors than {}", first.path.display());
                return Err(DataError::file(&shard.path, problem));
            }
            starts.push(labels.len());
            labels.extend(shard.labels()?);
            checksum.number(shard.size);
        }
        if let Some(manifest) = &manifest {
            check(path, manifest, &shards)?;
            manifest.shards.iter().for_each(|shard| checksum.text(shard.sha256.as_bytes()));
        }
        let classes = class_names(path, manifest.map(|manifest| manifest.classes), &labels)?;
        checksum.classes(&classes);
        labels.iter().for_each(|&label| checksum.number(u64::from(label)));
        Ok(Self { shards, starts, shape, labels, classes, sha256: checksum.hex() })
    }

    fn place(&self, index: usize) -> Option<(&Shard, usize)> {
        let shard = self.starts.partition_point(|&start| start <= index).checked_sub(1)?;
        (index < self.labels.len()).then(|| (&self.shards[shard], index - self.starts[shard]))
    }
}

impl Source for TensorShards {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> usize {
        self.labels.get(index).map_or(0, |&label| label as usize)
    }

    fn name(&self, index: usize) -> String {
        match self.place(index) {
            Some((shard, row)) => format!("{}: row {row}", shard.path.display()),
            None => format!("image {index}"),
        }
    }

    fn versions(&self) -> usize {
        1 + usize::from(self.shards.first().is_some_and(|shard| shard.mirrored.is_some()))
    }

    fn shape(&self) -> Option<ImageShape> {
        Some(self.shape)
    }

    fn read(&self, index: usize, version: usize) -> Result<Item> {
        let Some((shard, row)) = self.place(index) else { return Err(no_such_image(self, index)) };
        let start = if version == 0 { shard.rows } else { shard.mirrored.unwrap_or(shard.rows) };
        let length = self.shape.len() * shard.kind.bytes();
        let bytes = read_range(&shard.path, start + (row * length) as u64, length)?;
        if shard.kind == Kind::U8 {
            let picture = Picture::new(self.shape, bytes).ok_or_else(|| no_such_image(self, index))?;
            return Ok(Item::Picture(picture));
        }
        let numbers = shard.kind.numbers(&bytes);
        match numbers.iter().all(|number| number.is_finite()) {
            true => Ok(Item::Numbers(numbers)),
            false => Err(DataError::image(self.name(index), "holds a number that is not finite")),
        }
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }
}

fn manifest(path: &Path) -> Result<Option<ShardManifest>> {
    let file = path.join(MANIFEST);
    if path.join(PLAN).is_file() {
        let problem = format!("{PLAN} says that its shards are not finished: run drifting data latents again");
        return Err(DataError::file(path, problem));
    }
    if !path.is_dir() || !file.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(&file).map_err(|source| DataError::Io { path: file.clone(), source })?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| DataError::file(&file, error.to_string()))
}

fn check(path: &Path, manifest: &ShardManifest, shards: &[Shard]) -> Result<()> {
    let names = |shard: &Shard| shard.path.file_name().map(|name| name.to_string_lossy().into_owned());
    let found: Vec<_> = shards.iter().filter_map(|shard| Some((names(shard)?, shard.count))).collect();
    let stated: Vec<_> = manifest.shards.iter().map(|shard| (shard.file.clone(), shard.images)).collect();
    if found == stated {
        return Ok(());
    }
    let missing = stated.iter().find(|shard| !found.contains(shard));
    let extra = found.iter().find(|shard| !stated.contains(shard));
    let problem = match (missing, extra) {
        (Some((file, images)), _) => format!("{file} with {images} images is not there, but {MANIFEST} names it"),
        (None, Some((file, _))) => format!("{file} is not named by {MANIFEST}"),
        (None, None) => format!("the shards are in another order than in {MANIFEST}"),
    };
    Err(DataError::file(path, problem))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{DType, Device, Tensor};
    use drifting_models::weights;

    use super::super::testing::{levels, survives_damage};
    use super::*;

    fn shard(path: &Path, first: u32, labels: &[i64], dtype: DType) {
        let count = labels.len();
        let rows: Vec<f32> = (0..count).flat_map(|row| [first as f32 + row as f32; 8]).collect();
        let rows = Tensor::from_vec(rows, (count, 2, 2, 2), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let mirrored = (&rows + 100.0).unwrap();
        let labels = Tensor::new(labels, &Device::Cpu).unwrap();
        let tensors = [("latents", rows), ("mirrored", mirrored), ("labels", labels)];
        let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
        weights::write(path, &BTreeMap::from(tensors), &BTreeMap::new()).unwrap();
    }

    #[test]
    fn rows_are_found_over_several_shards() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let folder = tempfile::tempdir().unwrap();
            shard(&folder.path().join("b.safetensors"), 3, &[1, 2], dtype);
            shard(&folder.path().join("a.safetensors"), 0, &[2, 0, 1], dtype);
            let source = TensorShards::open(folder.path(), "").unwrap();
            assert_eq!(levels(&source), [(0, 2), (1, 0), (2, 1), (3, 1), (4, 2)]);
            assert_eq!((source.versions(), source.read(3, 1).unwrap()), (2, Item::Numbers(vec![103.0; 8])));
            assert!(source.name(3).ends_with("b.safetensors: row 0"));
            assert!(source.read(5, 0).is_err());
        }
    }

    #[test]
    fn shards_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let problem = || TensorShards::open(folder.path(), "").unwrap_err().to_string();
        shard(&path("a.safetensors"), 0, &[0, 1], DType::F32);
        shard(&path("b.safetensors"), 0, &[0, 1], DType::F16);
        assert!(problem().contains("b.safetensors: holds other tensors than"));
        shard(&path("b.safetensors"), 0, &[0, -1], DType::F32);
        assert!(problem().ends_with("holds a negative or too large label"));
        shard(&path("b.safetensors"), 0, &[0, 1], DType::F32);
        let entry = |file: &str| ShardEntry { file: file.into(), images: 2, sha256: String::new() };
        let mut manifest = ShardManifest { classes: vec!["x".into(), "y".into()], ..ShardManifest::default() };
        for (shards, expected) in [
            (vec![entry("a.safetensors")], Some("b.safetensors is not named by manifest.json")),
            (vec![entry("a.safetensors"), entry("c.safetensors")], Some("c.safetensors with 2 images is not there")),
            (vec![entry("b.safetensors"), entry("a.safetensors")], Some("in another order than in manifest.json")),
            (vec![entry("a.safetensors"), entry("b.safetensors")], None),
        ] {
            manifest.shards = shards;
            fs::write(path(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
            match expected {
                Some(expected) => assert!(problem().contains(expected), "{}", problem()),
                None => assert_eq!(TensorShards::open(folder.path(), "").unwrap().classes(), ["x", "y"]),
            }
        }
        fs::write(path(MANIFEST), "{").unwrap();
        assert!(problem().contains("manifest.json: "));
    }

    #[test]
    fn damaged_shards_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        shard(&path, 0, &[0, 1, 2, 1], DType::F32);
        let file = fs::read(&path).unwrap();
        let open = |path: &Path| TensorShards::open(path, "").map(|source| Box::new(source) as Box<dyn Source>);
        assert!(survives_damage(&file, &path, &open) > 100);
        let missing = open(&folder.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none: "), "{missing}");
    }
}
