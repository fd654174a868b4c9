//! ConvNeXt-V2 as a second encoder of pixel models (method section 8).

use std::path::Path;

use candle_core::{Device, Tensor};
use drifting_models::convnext::ConvNext;
use drifting_spec::ImageShape;

use super::{Encoder, FeatureError, MapInfo, MapShape, Statistic};

/// A published ConvNeXt-V2.
#[derive(Debug)]
pub struct ConvNextEncoder {
    network: ConvNext,
    maps: Vec<MapInfo>,
    folder: String,
}

impl ConvNextEncoder {
    /// Reads `config.json` and `model.safetensors` of `folder`, for images of shape `image`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it; images that are not in colour.
    pub fn open(folder: &Path, image: ImageShape, device: &Device) -> Result<Self, FeatureError> {
        if image.channels != 3 {
            let problem = format!("needs images of 3 channels, not {}", image.channels);
            return Err(FeatureError::Mismatch { key: "convnext", problem });
        }
        let network = ConvNext::open(folder, device)?;
        Ok(Self { folder: folder.display().to_string(), ..Self::new(network) })
    }

    /// The encoder of `network`.
    #[must_use]
    pub fn new(network: ConvNext) -> Self {
        let maps = convnext_maps(network.map_shapes());
        Self { network, maps, folder: String::new() }
    }
}

impl Encoder for ConvNextEncoder {
    fn maps(&self) -> &[MapInfo] {
        &self.maps
    }

    fn encode(&self, images: &Tensor) -> Result<Vec<Tensor>, FeatureError> {
        let maps = self.network.encode(images)?.into_iter().map(|found| found.map.contiguous());
        Ok(maps.collect::<candle_core::Result<_>>()?)
    }

    fn weight_files(&self) -> Vec<(String, String)> {
        vec![(self.folder.clone(), self.network.sha256().to_owned())]
    }
}

/// The paper's 13 keys from the names and `[h, w, C]` of the maps: mean and deviation of the four stages' standardised
/// maps, the last three of them as they are, and both pooled maps.
#[must_use]
pub fn convnext_maps(shapes: Vec<(String, [usize; 3])>) -> Vec<MapInfo> {
    let info = |(index, (name, [height, width, channels])): (usize, (String, [usize; 3]))| {
        let shape = MapShape { height, width, channels };
        let pooled = [Statistic::Mean, Statistic::Std];
        match index {
            0 => MapInfo::new(&name, shape, &pooled),
            _ if height * width > 1 => MapInfo::new(&name, shape, &[Statistic::Raw, pooled[0], pooled[1]]),
            _ => MapInfo::new(&name, shape, &[Statistic::Raw]),
        }
    };
    shapes.into_iter().enumerate().map(info).collect()
}
