//! The masked autoencoder as an encoder (paper A.3, A.5).

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use drifting_models::nn::Source;
use drifting_models::{INPUT_MAP, Mae, mae_map_shapes, weights};
use drifting_spec::{ImageShape, MaeConfig};

use super::{Encoder, FeatureError, MapInfo, MapShape, Statistic};
use crate::config::InputStatistic;

/// Entries of a weight file's header that hold the architecture as JSON: a run's, then an import's.
const CONFIG_ENTRIES: [&str; 2] = ["mae", "config"];
/// The setting that names the file.
const KEY: &str = "encoder.mae";
/// File of a run folder that names its last checkpoint.
const LATEST: &str = "latest";

/// A frozen masked autoencoder; only its encoder is run.
#[derive(Debug)]
pub struct MaeEncoder {
    mae: Mae,
    maps: Vec<MapInfo>,
    /// Path and hash of the weights.
    file: Option<(String, String)>,
}

impl MaeEncoder {
    /// The encoder of `mae`, whose weights should be [frozen](Mae::frozen).
    #[must_use]
    pub fn new(mae: Mae) -> Self {
        let maps = mae_maps(mae.config());
        Self { mae, maps, file: None }
    }

    /// The same encoder with this statistic of its input under the key `norm_x`.
    #[must_use]
    pub fn with_input_statistic(mut self, statistic: InputStatistic) -> Self {
        let statistic = match statistic {
            InputStatistic::RootMeanSquare => Statistic::RootMeanSquare,
            InputStatistic::MeanSquare => Statistic::MeanSquare,
        };
        for map in self.maps.iter_mut().filter(|map| map.name == INPUT_MAP) {
            *map = MapInfo::new(INPUT_MAP, map.shape, &[statistic]);
        }
        self
    }

    /// Reads the weights of a masked autoencoder, or the moving average in the last checkpoint of its run folder, for images
    /// of shape `image`.
    ///
    /// # Errors
    /// Names the file and what would be right.
    pub fn open(path: &Path, image: ImageShape, device: &Device) -> Result<Self, FeatureError> {
        let path = if path.is_dir() { in_run_folder(path)? } else { path.to_owned() };
        let failed = |problem: String| FeatureError::Encoder { key: KEY, path: path.clone(), problem };
        let file = weights::read(&path, device)?;
        let Some(json) = CONFIG_ENTRIES.iter().find_map(|entry| file.metadata.get(*entry)) else {
            let problem = "has no header that describes a masked autoencoder; drifting train and import write one";
            return Err(failed(problem.to_owned()));
        };
        let config: MaeConfig = serde_json::from_str(json).map_err(|error| failed(error.to_string()))?;
        if config.image != image {
            return Err(failed(format!("is for images of {:?}, the generator makes {image:?}", config.image)));
        }
        let mae = Mae::frozen(config, Source::Tensors(file.tensors), device)?;
        Ok(Self { file: Some((path.display().to_string(), file.sha256)), ..Self::new(mae) })
    }
}

impl Encoder for MaeEncoder {
    fn maps(&self) -> &[MapInfo] {
        &self.maps
    }

    fn encode(&self, images: &Tensor) -> Result<Vec<Tensor>, FeatureError> {
        let maps = self.mae.encode(images)?.into_iter().map(|found| found.map.contiguous());
        Ok(maps.collect::<candle_core::Result<_>>()?)
    }

    fn weight_files(&self) -> Vec<(String, String)> {
        self.file.iter().cloned().collect()
    }
}

/// The maps of a masked autoencoder with their keys: `norm_x` of the patched input, all statistics of the others.
#[must_use]
pub fn mae_maps(config: &MaeConfig) -> Vec<MapInfo> {
    let info = |(name, [height, width, channels]): (String, [usize; 3])| {
        let shape = MapShape { height, width, channels };
        match name.as_str() {
            INPUT_MAP => MapInfo::new(&name, shape, &[Statistic::RootMeanSquare]),
            _ => MapInfo::with_all_statistics(&name, shape),
        }
    };
    mae_map_shapes(config).into_iter().map(info).collect()
}

/// The file of the first moving average in the last checkpoint of a run folder.
fn in_run_folder(folder: &Path) -> Result<PathBuf, FeatureError> {
    let failed = |path: &Path, problem: String| FeatureError::Encoder { key: KEY, path: path.to_owned(), problem };
    let latest = folder.join(LATEST);
    let name = std::fs::read_to_string(&latest).map_err(|error| failed(&latest, error.to_string()))?;
    let checkpoint = folder.join("checkpoints").join(name.trim());
    let entries = std::fs::read_dir(&checkpoint).map_err(|error| failed(&checkpoint, error.to_string()))?;
    let mut averages: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ema_")))
        .collect();
    averages.sort();
    match averages.len() {
        0 => Err(failed(&checkpoint, "holds no moving average".to_owned())),
        1 => Ok(averages.remove(0)),
        _ => Err(failed(&checkpoint, "holds several moving averages; name the file of one".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const IMAGE: ImageShape = ImageShape { channels: 1, height: 8, width: 8 };

    /// Writes weights under the header entry `entry`.
    fn write(path: &Path, entry: &str) {
        let config = MaeConfig { blocks: [1; 4], ..MaeConfig::new(IMAGE, 2, 4, 3) };
        let mae = Mae::new(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
        let header = BTreeMap::from([(entry.to_owned(), serde_json::to_string(&config).unwrap())]);
        weights::write(path, &mae.params().tensors(), &header).unwrap();
    }

    #[test]
    fn weights_are_found_by_file_and_by_run_folder() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoints/step_000007");
        std::fs::create_dir_all(&checkpoint).unwrap();
        let file = checkpoint.join("ema_0.9995.safetensors");
        write(&file, "mae");
        let missing = MaeEncoder::open(folder.path(), IMAGE, &Device::Cpu).unwrap_err().to_string();
        assert!(missing.contains("features.encoder.mae") && missing.contains("latest"), "{missing}");
        std::fs::write(folder.path().join(LATEST), "step_000007\n").unwrap();
        for path in [folder.path(), &file] {
            let encoder = MaeEncoder::open(path, IMAGE, &Device::Cpu).unwrap();
            let maps: Vec<_> = encoder.maps().iter().map(|map| map.name.as_str()).collect();
            assert_eq!(maps, ["x", "conv1", "layer1", "layer2", "layer3", "layer4"]);
            let files = encoder.weight_files();
            assert!(files[0].0.ends_with("ema_0.9995.safetensors") && files[0].1.len() == 64, "{files:?}");
        }
        write(&checkpoint.join("ema_0.9.safetensors"), "mae");
        let several = MaeEncoder::open(folder.path(), IMAGE, &Device::Cpu).unwrap_err().to_string();
        assert!(several.contains("several moving averages; name the file of one"), "{several}");
    }

    #[test]
    fn the_statistic_of_the_input_can_be_chosen() {
        let config = MaeConfig { blocks: [1; 4], ..MaeConfig::new(IMAGE, 2, 4, 3) };
        let mae = Mae::frozen(config, Source::Seed(1), &Device::Cpu).unwrap();
        let encoder = MaeEncoder::new(mae).with_input_statistic(InputStatistic::MeanSquare);
        assert_eq!(encoder.maps()[0].keys, [("norm_x".to_owned(), Statistic::MeanSquare)]);
        assert!(encoder.maps()[1].keys.len() > 1);
    }

    #[test]
    fn other_files_and_images_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encoder.safetensors");
        write(&path, "config");
        MaeEncoder::open(&path, IMAGE, &Device::Cpu).unwrap();
        let other = ImageShape { channels: 3, ..IMAGE };
        assert!(MaeEncoder::open(&path, other, &Device::Cpu).unwrap_err().to_string().contains("is for images of"));
        write(&path, "manifest");
        assert!(
            MaeEncoder::open(&path, IMAGE, &Device::Cpu).unwrap_err().to_string().contains("no header that describes")
        );
    }
}
