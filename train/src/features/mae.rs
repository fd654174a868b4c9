//! The masked autoencoder as an encoder (paper A.3, A.5).

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use drifting_models::weights::MaeFile;
use drifting_models::{INPUT_MAP, Mae, mae_map_shapes};
use drifting_spec::{ImageShape, MaeConfig};

use super::{Encoder, FeatureError, MapInfo, MapShape, Statistic};

/// The setting that names the file.
const KEY: &str = "encoder.mae";
/// File of a run folder that names its last checkpoint.
const LATEST: &str = "latest";

/// A frozen masked autoencoder; only its encoder is run.
#[derive(Debug)]
pub struct MaeEncoder {
    mae: Mae,
    maps: Vec<MapInfo>,
}

impl MaeEncoder {
    /// The encoder of `mae`, whose weights should be [frozen](Mae::frozen).
    #[must_use]
    pub fn new(mae: Mae) -> Self {
        let maps = mae_maps(mae.config());
        Self { mae, maps }
    }

    /// Reads the weights of a masked autoencoder, or the moving average in the last checkpoint of its run folder, for images
    /// of shape `image`.
    ///
    /// # Errors
    /// Names the file and what would be right.
    pub fn open(path: &Path, image: ImageShape) -> Result<Self, FeatureError> {
        let path = if path.is_dir() { in_run_folder(path)? } else { path.to_owned() };
        let file = MaeFile::read(&path, &Device::Cpu)?;
        if file.config.image != image {
            let problem = format!("is for images of {:?}, the generator makes {image:?}", file.config.image);
            return Err(FeatureError::Encoder { key: KEY, path, problem });
        }
        Ok(Self::new(file.frozen(&Device::Cpu)?))
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
