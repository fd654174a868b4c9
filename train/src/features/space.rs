//! The feature spaces of a run: encoders and the keys that are taken from them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use drifting_models::autoencoder::{self, Autoencoder};
use drifting_models::ops::{Values, inner};
use drifting_models::profile;
use drifting_spec::ImageShape;
use rayon::prelude::*;

use super::key::{FeatureKey, Origin, available_keys, select_keys};
use super::statistic::Statistic;
use super::{ConvNextEncoder, Decoded, Encoder, FeatureError, MaeEncoder, MapInfo, MapShape};
use crate::config::{EncoderSettings, FeatureSettings};

/// Encoders with the keys of a run.
#[derive(Debug)]
pub struct FeatureSpace {
    image: ImageShape,
    device: Device,
    encoders: Vec<Box<dyn Encoder>>,
    maps: Vec<MapInfo>,
    keys: Vec<FeatureKey>,
    weight_files: BTreeMap<String, String>,
}

impl FeatureSpace {
    /// The keys that `names` ask for, of images of shape `image` on the processor; see [`select_keys`].
    ///
    /// # Errors
    /// As [`select_keys`].
    pub fn new(image: ImageShape, encoders: Vec<Box<dyn Encoder>>, names: &[String]) -> Result<Self, FeatureError> {
        let maps: Vec<_> = encoders.iter().flat_map(|encoder| encoder.maps()).cloned().collect();
        let keys = select_keys(&available_keys(image, &maps)?, image, names)?;
        let weight_files = encoders.iter().flat_map(|encoder| encoder.weight_files()).collect();
        Ok(Self { image, device: Device::Cpu, encoders, maps, keys, weight_files })
    }

    /// The same keys for images on `device`, where the encoders are.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// The feature spaces of a run on `device`.
    ///
    /// # Errors
    /// An encoder that cannot be read or takes other images; keys as in [`select_keys`].
    pub fn open(image: ImageShape, settings: &FeatureSettings, device: &Device) -> Result<Self, FeatureError> {
        let autoencoder: Option<Arc<dyn Autoencoder>> = match &settings.decoder {
            Some(folder) => Some(autoencoder::open(folder, device)?.into()),
            None => None,
        };
        let seen = match &autoencoder {
            Some(autoencoder) => autoencoder.image_shape(image)?,
            None => image,
        };
        let mut encoders: Vec<Box<dyn Encoder>> = Vec::new();
        if let Some(EncoderSettings { mae }) = &settings.encoder {
            let encoder = MaeEncoder::open(mae, seen, device)?;
            encoders.push(Box::new(encoder.with_input_statistic(settings.input_statistic)));
        }
        if let Some(folder) = &settings.convnext {
            encoders.push(Box::new(ConvNextEncoder::open(folder, seen, device)?));
        }
        if let Some(autoencoder) = autoencoder {
            encoders = vec![Box::new(Decoded::new(autoencoder, encoders))];
        }
        Ok(Self::new(image, encoders, &settings.keys)?.on(device))
    }

    /// Shape of the images.
    pub(super) fn image(&self) -> ImageShape {
        self.image
    }

    /// Sizes of a map by its number.
    pub(super) fn map_shape(&self, index: usize) -> MapShape {
        self.maps[index].shape
    }

    /// Where the encoders are.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The files that the encoders' weights come from, with their SHA-256 in hexadecimal.
    #[must_use]
    pub fn weight_files(&self) -> &BTreeMap<String, String> {
        &self.weight_files
    }

    /// The keys in the order of the settings.
    #[must_use]
    pub fn keys(&self) -> &[FeatureKey] {
        &self.keys
    }

    /// The maps of images `[n, channels, height, width]`, in their graph if they have one.
    ///
    /// # Errors
    /// Images of another shape.
    pub fn encode(&self, images: &Tensor) -> Result<Encoded, FeatureError> {
        let mut maps = Vec::with_capacity(self.maps.len());
        if self.keys.iter().any(|key| matches!(key.origin, Origin::Map(..))) {
            for encoder in &self.encoders {
                maps.extend(encoder.encode(images)?.into_iter().map(Some));
            }
            for (index, map) in maps.iter_mut().enumerate() {
                // What no key needs leaves the memory.
                map.take_if(|_| !self.keys.iter().any(|key| key.is_of_map(index)));
            }
        }
        Ok(Encoded { images: images.contiguous()?, maps })
    }
}

/// Images and their maps.
#[derive(Debug)]
pub struct Encoded {
    pub(super) images: Tensor,
    pub(super) maps: Vec<Option<Tensor>>,
}

impl Encoded {
    /// Where the images are.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.images.device()
    }

    /// Access to the numbers.
    ///
    /// # Errors
    /// Tensors that are not contiguous f32 on the CPU.
    pub fn views(&self) -> Result<Views<'_>, FeatureError> {
        let maps = self.maps.iter().map(|map| map.as_ref().map(Values::of).transpose());
        let maps = maps.collect::<candle_core::Result<_>>()?;
        Ok(Views { images: Values::of(&self.images)?, maps })
    }
}

/// The numbers of images and maps, borrowed.
#[derive(Debug)]
pub struct Views<'a> {
    images: Values<'a>,
    maps: Vec<Option<Values<'a>>>,
}

impl Views<'_> {
    /// The features `[n, T, D]` of all images under a key of `space`.
    #[must_use]
    pub fn features(&self, space: &FeatureSpace, key: &FeatureKey) -> Cow<'_, [f32]> {
        match key.origin {
            Origin::Image(pixel) => pixel.extract(space.image, &self.images),
            Origin::Map(index, statistic) => match self.maps.get(index) {
                Some(Some(map)) => statistic.extract(space.maps[index].shape, map),
                _ => Cow::Borrowed(&[]),
            },
        }
    }
}

/// Gradients with respect to images and maps, added up over keys.
#[derive(Debug)]
pub struct Gradients {
    images: Option<Vec<f32>>,
    maps: Vec<Option<Vec<f32>>>,
}

impl Gradients {
    /// No gradients.
    #[must_use]
    pub fn new(space: &FeatureSpace) -> Self {
        Self { images: None, maps: vec![None; space.maps.len()] }
    }

    /// Adds what `gradient` `[n, T, D]`, with respect to the features under `key`, brings back.
    pub fn add(&mut self, space: &FeatureSpace, views: &Views<'_>, key: &FeatureKey, gradient: Vec<f32>) {
        let _span = profile::span("statistics, backward");
        match key.origin {
            Origin::Image(pixel) => {
                let sum = self.images.get_or_insert_with(|| vec![0.0; views.images.len()]);
                pixel.pull_back(space.image, &views.images, &gradient, sum);
            }
            Origin::Map(index, Statistic::Raw) if self.maps[index].is_none() => self.maps[index] = Some(gradient),
            Origin::Map(index, statistic) => {
                let Some(Some(map)) = views.maps.get(index) else { return };
                let shape = space.maps[index].shape;
                let sum = self.maps[index].get_or_insert_with(|| vec![0.0; map.len()]);
                let images = sum.par_chunks_mut(shape.len()).zip(map.par_chunks(shape.len()));
                let len = statistic.locations(shape) * shape.channels;
                images.zip(gradient.par_chunks(len)).for_each(|((sum, image), gradient)| {
                    statistic.pull_back(shape, image, gradient, sum);
                });
            }
        }
    }

    /// A scalar whose backward hands each tensor of `encoded` its gradient.
    ///
    /// # Errors
    /// Tensors of other shapes.
    pub fn seed(self, encoded: &Encoded) -> Result<Option<Tensor>, FeatureError> {
        let pairs = std::iter::once((Some(&encoded.images), self.images))
            .chain(encoded.maps.iter().map(Option::as_ref).zip(self.maps));
        let mut seeds = Vec::new();
        for (tensor, gradient) in pairs {
            if let (Some(tensor), Some(gradient)) = (tensor, gradient) {
                seeds.push(inner(tensor, &Tensor::from_vec(gradient, tensor.shape(), tensor.device())?)?);
            }
        }
        let total = seeds.into_iter().map(Ok).reduce(|a: candle_core::Result<Tensor>, b| a? + b?);
        Ok(total.transpose()?)
    }
}
