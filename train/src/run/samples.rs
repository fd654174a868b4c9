//! Sample grids: classes x alphas from fixed noise, so that pictures of different steps can be compared.

use std::io::Cursor;

use candle_core::{Device, Tensor};
use drifting_models::Generator;
use drifting_models::autoencoder::Autoencoder;
use drifting_spec::{ImageShape, Inputs, pixels};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage, imageops};

use super::RunError;
use crate::config::TrainConfig;

/// Width that a grid of small images is enlarged to, at most.
const GRID_WIDTH: usize = 1200;
/// Latents that are decoded at once.
const DECODED_AT_ONCE: usize = 8;

/// A PNG with a row for each class and, for each alpha, a few columns. A column's images share noise and style, and so
/// do the columns of the same place under other alphas: only what is asked for differs. With a `decoder` the pictures are
/// what it makes of the generated latents.
///
/// # Errors
/// Images that are no pictures (neither grey nor colour), latents that the decoder does not take.
pub fn grid(
    generator: &Generator,
    config: &TrainConfig,
    decoder: Option<&dyn Autoencoder>,
) -> Result<Vec<u8>, RunError> {
    let settings = &config.sampling;
    let mut inputs = Inputs::default();
    for class in 0..settings.grid_classes.min(config.generator.classes) {
        for alpha in &settings.grid_alphas {
            for index in 0..settings.grid_images {
                inputs.push_seeded(&config.generator, config.seed, index as u64, class, *alpha);
            }
        }
    }
    let failed = |problem: String| RunError::file("samples".as_ref(), problem);
    if inputs.batch() == 0 {
        return Err(failed("sampling: a grid needs classes, alphas and images".to_owned()));
    }
    let (images, shape) = pictures(&generator.run(&inputs)?.to_device(&Device::Cpu)?, config.generator.image, decoder)?;
    let bytes = images.chunks_exact(shape.len()).map(|image| pixels::to_bytes([-1.0, 1.0], image, shape));
    let bytes = bytes.collect::<Result<Vec<_>, _>>().map_err(|error| failed(error.to_string()))?;
    let columns = settings.grid_alphas.len() * settings.grid_images;
    let (sheet, bytes) = pixels::sheet(&bytes, shape, columns).map_err(|error| failed(error.to_string()))?;
    encode_png(sheet, bytes, GRID_WIDTH).ok_or_else(|| failed("the sheet is no picture".to_owned()))
}

/// The numbers of `images` `[n, c, h, w]` and the shape of each; decoded where there is a decoder.
///
/// # Errors
/// Latents that the decoder does not take.
pub fn pictures(
    images: &Tensor,
    shape: ImageShape,
    decoder: Option<&dyn Autoencoder>,
) -> Result<(Vec<f32>, ImageShape), RunError> {
    let numbers = |images: &Tensor| images.flatten_all()?.to_vec1::<f32>();
    let Some(decoder) = decoder else { return Ok((numbers(images)?, shape)) };
    let mut decoded = Vec::new();
    let count = images.dim(0)?;
    for first in (0..count).step_by(DECODED_AT_ONCE) {
        let part = images.narrow(0, first, DECODED_AT_ONCE.min(count - first))?.contiguous()?.detach();
        decoded.extend(numbers(&decoder.decode(&part)?)?);
    }
    Ok((decoded, decoder.image_shape(shape)?))
}

/// Interleaved bytes as PNG, enlarged by the largest whole number that keeps it within `width`; `None` when they are no
/// picture of that shape.
#[must_use]
pub fn encode_png(shape: ImageShape, bytes: Vec<u8>, width: usize) -> Option<Vec<u8>> {
    let (columns, rows) = (u32::try_from(shape.width).ok()?, u32::try_from(shape.height).ok()?);
    let image = match shape.channels {
        1 => DynamicImage::ImageLuma8(GrayImage::from_raw(columns, rows, bytes)?),
        3 => DynamicImage::ImageRgb8(RgbImage::from_raw(columns, rows, bytes)?),
        _ => return None,
    };
    let factor = (width / shape.width.max(1)).max(1) as u32;
    let image = image.resize_exact(columns * factor, rows * factor, imageops::FilterType::Nearest);
    let mut png = Vec::new();
    image.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).ok()?;
    Some(png)
}
