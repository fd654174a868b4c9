//! What the network makes of what it does not see: original, masked, and with the hidden positions filled in.

use drifting_models::Mae;
use drifting_models::nn::Source;
use drifting_spec::{MaeConfig, pixels};

use super::mask::Masks;
use super::trainer::{MaeTrainer, tensors};
use crate::data::LabelledBatch;
use crate::run::{RunError, encode_png};

/// Images in a picture, and how many stand side by side.
const IMAGES: usize = 24;
const ACROSS: usize = 4;
/// Width that a picture is enlarged to, at most.
const WIDTH: usize = 1200;

/// A PNG of images of `batch`, three columns for each; `None` when they are no pictures.
pub(super) fn picture(trainer: &MaeTrainer<'_>, batch: &LabelledBatch) -> Result<Option<Vec<u8>>, RunError> {
    let config = trainer.config;
    let count = batch.labels.len().min(IMAGES);
    if !matches!(config.mae.image.channels, 1 | 3) || count == 0 {
        return Ok(None);
    }
    let weights = match trainer.learner.averages().first() {
        Some(average) => average.tensors().clone(),
        None => trainer.mae.params().tensors(),
    };
    let mae = Mae::frozen(config.mae.clone(), Source::Tensors(weights), trainer.mae.device())?;
    let (images, _) = tensors(batch, 0, count, config, mae.device())?;
    let mask = Masks::new(&config.mae, config.seed, config.masking.ratio).held_out().draw(0, count, mae.device())?;
    let found = mae.reconstruct(&images, &mask)?;
    let flat = |tensor: &candle_core::Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    let (recon, target, mask) = (flat(&found.recon)?, flat(&found.target)?, flat(&mask)?);

    let shape = config.mae.image;
    let positions = mask.len() / count;
    let size = config.mae.patch_len();
    let failed = |error: pixels::PixelError| RunError::file("samples".as_ref(), error.to_string());
    let mut sheet = Vec::with_capacity(3 * count);
    for image in 0..count {
        for column in 0..3 {
            let mut patched = target[image * shape.len()..(image + 1) * shape.len()].to_vec();
            let hidden = (0..positions).filter(|position| column > 0 && mask[image * positions + position] > 0.5);
            for position in hidden {
                let place = position * size..(position + 1) * size;
                match column {
                    1 => patched[place].fill(0.0),
                    _ => patched[place.clone()].copy_from_slice(&recon[image * shape.len()..][place]),
                }
            }
            let planes = unpatch(&patched, &config.mae);
            sheet.push(pixels::to_bytes([-1.0, 1.0], &planes, shape).map_err(failed)?);
        }
    }
    let (sheet, bytes) = pixels::sheet(&sheet, shape, 3 * ACROSS).map_err(failed)?;
    Ok(encode_png(sheet, bytes, WIDTH))
}

/// `[h/p, w/p, p p c]` (order row, column, channel) to `[c, h, w]`.
fn unpatch(patched: &[f32], config: &MaeConfig) -> Vec<f32> {
    let (side, (_, across)) = (config.input_patch, config.grid());
    let (channels, width) = (config.image.channels, config.image.width);
    let plane = config.image.height * width;
    let mut planes = vec![0.0; patched.len()];
    for (index, &value) in patched.iter().enumerate() {
        let (position, inner) = (index / config.patch_len(), index % config.patch_len());
        let (pixel, channel) = (inner / channels, inner % channels);
        let row = position / across * side + pixel / side;
        let column = position % across * side + pixel % side;
        planes[channel * plane + row * width + column] = value;
    }
    planes
}

#[cfg(test)]
mod tests {
    use drifting_spec::ImageShape;

    use super::*;

    #[test]
    fn patches_go_back_to_their_place() {
        let config = MaeConfig::new(ImageShape { channels: 2, height: 4, width: 6 }, 2, 8, 10);
        // The number of (channel, row, column) at its place in the patched order.
        let mut patched = Vec::new();
        for (row, column) in (0..2).flat_map(|row| (0..3).map(move |column| (row, column))) {
            for (inner_row, inner_column, channel) in
                [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]
            {
                patched.push((channel * 24 + (row * 2 + inner_row) * 6 + column * 2 + inner_column) as f32);
            }
        }
        assert_eq!(unpatch(&patched, &config), (0..48u8).map(f32::from).collect::<Vec<_>>());
    }
}
