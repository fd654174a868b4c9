//! How far apart two sets of images are.

use drifting_spec::{ImageShape, pixels};

use super::report::OutputRange;

/// Reported where no level of any pixel differs.
const MOST_PSNR: f32 = 100.0;

/// How far the answers of an engine may be from candle's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gate {
    /// Largest difference of a number.
    pub(super) difference: f32,
    /// Least peak signal-to-noise ratio of the 8-bit images in dB; then the difference of numbers is only told.
    pub(super) psnr: Option<f32>,
}

/// What images, or other outputs, are compared in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Levels {
    /// The shape of pictures, and the numbers that mean black and white.
    pictures: Option<(ImageShape, [f32; 2])>,
    /// Smallest to largest number, the peak of what is no picture.
    span: f64,
}

impl Levels {
    /// Of images around `range`: pictures if they have one channel or three.
    pub(super) fn of_images(shape: ImageShape, range: [f32; 2], output: OutputRange) -> Self {
        let pictures = matches!(shape.channels, 1 | 3).then_some((shape, range));
        Self { pictures, ..Self::of_numbers(output) }
    }

    /// Of numbers.
    pub(super) fn of_numbers(output: OutputRange) -> Self {
        Self { pictures: None, span: f64::from(output.max) - f64::from(output.min) }
    }

    /// Peak signal-to-noise ratio in dB: of the 8-bit images, or of the numbers themselves against the range of candle's.
    pub(super) fn psnr(&self, found: &[f32], expected: &[f32]) -> f32 {
        let (found, peak) = match (self.bytes(found), self.bytes(expected)) {
            (Some(found), Some(expected)) => (error(&found, &expected), 255.0),
            _ => (error(found, expected), self.span),
        };
        let ratio = 10.0 * (peak * peak / found).log10();
        if ratio.is_nan() { 0.0 } else { (ratio as f32).min(MOST_PSNR) }
    }

    fn bytes(&self, images: &[f32]) -> Option<Vec<f32>> {
        let (shape, range) = self.pictures?;
        let pictures = images.chunks(shape.len().max(1)).map(|image| {
            let bytes = pixels::to_bytes(range, image, shape).ok()?;
            Some(bytes.into_iter().map(f32::from))
        });
        Some(pictures.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

/// Mean square of the differences.
fn error(found: &[f32], expected: &[f32]) -> f64 {
    let squares = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>() / expected.len().max(1) as f64
}

/// Mean of the absolute differences.
pub(super) fn mean_difference(found: &[f32], expected: &[f32]) -> f32 {
    let differences = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    (differences.sum::<f64>() / expected.len().max(1) as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(channels: usize, range: f32) -> Levels {
        let shape = ImageShape { channels, height: 2, width: 2 };
        Levels::of_images(shape, [-1.0, 1.0], OutputRange { min: -range, max: range, std: 1.0 })
    }

    #[test]
    fn pictures_are_compared_in_levels() {
        let levels = levels(1, 1.0);
        let image = [-1.0, 0.0, 0.5, 3.0];
        assert_eq!(levels.psnr(&image, &image), MOST_PSNR);
        // Less than half a level, and beyond white: the picture is the same.
        assert_eq!(levels.psnr(&[-1.0, 0.001, 0.5, 2.0], &image), MOST_PSNR);
        // One level in one of four pixels: 255^2 * 4.
        let one = levels.psnr(&[-1.0, 0.0, 0.5 + 2.0 / 255.0, 1.0], &image);
        assert!((one - 54.15).abs() < 0.01, "{one}");
        assert_eq!(mean_difference(&[0.0, 1.0], &[0.5, 1.0]), 0.25);
    }

    #[test]
    fn latents_are_compared_in_their_own_range() {
        let levels = levels(4, 2.0);
        let expected = [0.0f32; 16];
        let off = levels.psnr(&[0.04; 16], &expected);
        assert!((off - 40.0).abs() < 0.01, "{off}");
        assert_eq!(levels.psnr(&[f32::NAN; 16], &expected), 0.0);
    }
}
