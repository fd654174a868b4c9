//! A sheet of images that the generator makes, for people to look at.

use drifting_spec::{ImageShape, Inputs, Manifest, pixels};

use crate::{Error, ImageModel, Result};

/// Images of one class, from left to right.
const COLUMNS: usize = 4;
/// Classes at most, from top to bottom.
const ROWS: usize = 8;
/// Multiplications that a sheet may cost; a large generator gets fewer rows.
const BUDGET: u64 = 1_000_000_000_000;
/// The seed of all images: that of `drifting sample` without `--seed`.
pub(super) const SEED: u64 = 0;

/// A sheet of images: a class a row.
pub(crate) struct Sheet {
    /// The file.
    pub(super) png: Vec<u8>,
    /// The classes, from top to bottom.
    pub(super) classes: Vec<usize>,
}

impl Sheet {
    /// The sheet of a model; none if its images are no pictures, as latents are not.
    ///
    /// # Errors
    /// Networks that cannot be run.
    pub(crate) fn make(network: ImageModel<'_>, manifest: &Manifest) -> Result<Option<Self>> {
        let shape = manifest.image().map_err(problem)?;
        if !matches!(shape.channels, 1 | 3) {
            return Ok(None);
        }
        let affordable = BUDGET / manifest.macs().max(1) / COLUMNS as u64;
        let rows = ROWS.min(usize::try_from(affordable).unwrap_or(ROWS)).max(1);
        let classes = spread(manifest.generator.classes, rows);
        let mut images = Vec::new();
        for &class in &classes {
            for index in 0..COLUMNS {
                // One at a time, as `drifting sample` makes them.
                let mut inputs = Inputs::default();
                inputs.push_seeded(&manifest.generator, SEED, index as u64, class, manifest.alpha.default);
                let image = network.run(manifest, &inputs)?.flatten_all()?.to_vec1::<f32>()?;
                images.push(pixels::to_bytes(manifest.output_range(), &image, shape).map_err(problem)?);
            }
        }
        let (shape, bytes) = pixels::sheet(&images, shape, COLUMNS).map_err(problem)?;
        Ok(Some(Self { png: encode(shape, &bytes)?, classes }))
    }
}

fn problem(error: impl std::fmt::Display) -> Error {
    Error::Samples(error.to_string())
}

/// `count` classes of `all`, the first and the last among them.
fn spread(all: usize, count: usize) -> Vec<usize> {
    match count.min(all) {
        0 | 1 => vec![0],
        count => (0..count).map(|i| i * (all - 1) / (count - 1)).collect(),
    }
}

fn encode(shape: ImageShape, bytes: &[u8]) -> Result<Vec<u8>> {
    let side = |length: usize| u32::try_from(length).map_err(problem);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(shape.width)?, side(shape.height)?);
    encoder.set_color(if shape.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(bytes)).map_err(problem)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use drifting_models::Generator;
    use drifting_models::nn::Source;
    use drifting_spec::{AlphaRange, GeneratorConfig};

    use super::*;

    fn sheet(channels: usize) -> Option<Sheet> {
        let image = ImageShape { channels, height: 4, width: 6 };
        let config = GeneratorConfig { style_tokens: 2, ..GeneratorConfig::new(image, 2, 8, 1, 1, 20) };
        let alpha = AlphaRange { min: 1.0, max: 4.0, default: 1.5 };
        let generator = Generator::new(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
        Sheet::make((&generator).into(), &Manifest::new("test".into(), config, alpha)).unwrap()
    }

    #[test]
    fn pictures_have_a_sheet_and_latents_have_none() {
        for (channels, colour) in [(1, png::ColorType::Grayscale), (3, png::ColorType::Rgb)] {
            let sheet = sheet(channels).unwrap();
            assert_eq!(sheet.classes, [0, 2, 5, 8, 10, 13, 16, 19]);
            let reader = png::Decoder::new(std::io::Cursor::new(sheet.png)).read_info().unwrap();
            assert_eq!((reader.info().size(), reader.info().color_type), ((4 * 6 + 3 * 2, 8 * 4 + 7 * 2), colour));
        }
        assert!(sheet(4).is_none());
    }

    #[test]
    fn classes_are_spread() {
        assert_eq!(spread(3, 8), [0, 1, 2]);
        assert_eq!(spread(1000, 2), [0, 999]);
        assert_eq!((spread(1, 8), spread(9, 1)), (vec![0], vec![0]));
    }
}
