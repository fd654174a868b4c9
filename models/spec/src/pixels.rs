//! From a generator's output to 8-bit pixels: the one conversion that the server, `drifting sample` and the sample
//! grids of a training run share, so that the same seed gives the same picture everywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ImageShape;

/// What an exported file's image is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pixels {
    /// Numbers as the last layer gives them, not clipped.
    #[default]
    Float,
    /// Levels 0 to 255, as [`to_bytes`] makes them.
    Uint8,
}

impl Pixels {
    /// Black and white in levels.
    pub const LEVELS: [f32; 2] = [0.0, 255.0];

    const NAMES: [(&str, Self); 2] = [("float", Self::Float), ("uint8", Self::Uint8)];

    /// Whether these are plain numbers.
    #[must_use]
    pub fn is_float(&self) -> bool {
        *self == Self::Float
    }
}

impl FromStr for Pixels {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, pixels)| *pixels).ok_or_else(|| format!("no pixels are called {name:?}: float and uint8 are"))
    }
}

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_float() { "float" } else { "uint8" })
    }
}

/// Pixels between the images of a [`sheet`].
pub const SHEET_GAP: usize = 2;

/// Level of the gap between the images of a [`sheet`].
const SHEET_BACKGROUND: u8 = 255;

/// Values that are no picture, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PixelError {
    /// Neither grey nor colour.
    #[error("an image of {0} channels cannot be shown: 1 (grey) or 3 (colour) can")]
    Channels(usize),
    /// More or fewer numbers than the shape holds.
    #[error("{found} numbers for an image of {expected}")]
    Length {
        /// Numbers that were given.
        found: usize,
        /// Numbers that the shape holds.
        expected: usize,
    },
}

/// Turns one planar image (`[channels, height, width]`) into interleaved bytes (`[height, width, channels]`).
///
/// `value_range` names the values that mean black and white; what lies outside is clamped and the rest rounded to the
/// nearest of 256 levels, upwards from the middle between two. A value that is no number becomes black.
///
/// # Errors
/// Channels other than 1 and 3, and a slice that does not fit `shape`.
pub fn to_bytes(value_range: [f32; 2], planar: &[f32], shape: ImageShape) -> Result<Vec<u8>, PixelError> {
    check(shape, planar.len())?;
    let mut bytes = vec![0; planar.len()];
    pulp::Arch::new().dispatch(Interleave { value_range, planar, channels: shape.channels, bytes: &mut bytes });
    Ok(bytes)
}

/// The loop of [`to_bytes`].
struct Interleave<'a> {
    value_range: [f32; 2],
    planar: &'a [f32],
    channels: usize,
    bytes: &'a mut [u8],
}

impl pulp::WithSimd for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let plane = self.planar.len() / self.channels;
        let mut levels = [0; 256];
        for (channel, values) in self.planar.chunks_exact(plane).enumerate() {
            let pixels = self.bytes.chunks_mut(self.channels * levels.len());
            for (values, pixels) in values.chunks(levels.len()).zip(pixels) {
                for (level, &value) in levels.iter_mut().zip(values) {
                    // Not negative, so the conversion rounds down; it makes 0 of NaN.
                    *level = unrounded(self.value_range, value) as u8;
                }
                let pixels = pixels.chunks_exact_mut(self.channels);
                pixels.zip(levels).for_each(|(pixel, level)| pixel[channel] = level);
            }
        }
    }
}

/// The level of a value, a whole number from 0 to 255 or NaN: floor((value - black) / (white - black) * 255 + 1/2), the
/// quotient clamped to 0..1. These are the operations that an exported graph with [`Pixels::Uint8`] has, one by one, so
/// that both give the same bytes.
#[must_use]
pub fn level(value_range: [f32; 2], value: f32) -> f32 {
    unrounded(value_range, value).floor()
}

#[inline(always)]
fn unrounded([black, white]: [f32; 2], value: f32) -> f32 {
    ((value - black) / (white - black)).clamp(0.0, 1.0) * 255.0 + 0.5
}

/// Lays images of one shape (interleaved bytes, as [`to_bytes`] gives them) out row by row on a white sheet, `columns`
/// in a row and [`SHEET_GAP`] pixels apart; returns the sheet's shape and its interleaved bytes.
///
/// # Errors
/// Channels other than 1 and 3, and an image that does not fit `shape`.
pub fn sheet(images: &[Vec<u8>], shape: ImageShape, columns: usize) -> Result<(ImageShape, Vec<u8>), PixelError> {
    for image in images {
        check(shape, image.len())?;
    }
    let columns = columns.clamp(1, images.len().max(1));
    let rows = images.len().div_ceil(columns);
    let side = |count: usize, length: usize| (count * (length + SHEET_GAP)).saturating_sub(SHEET_GAP);
    let whole = ImageShape { height: side(rows, shape.height), width: side(columns, shape.width), ..shape };
    let mut bytes = vec![SHEET_BACKGROUND; whole.len()];
    let (line, whole_line) = (shape.width * shape.channels, whole.width * shape.channels);
    for (number, image) in images.iter().enumerate() {
        let top = (number / columns) * (shape.height + SHEET_GAP);
        let left = (number % columns) * (shape.width + SHEET_GAP) * shape.channels;
        for (row, pixels) in image.chunks_exact(line).enumerate() {
            let start = (top + row) * whole_line + left;
            bytes[start..start + line].copy_from_slice(pixels);
        }
    }
    Ok((whole, bytes))
}

fn check(shape: ImageShape, found: usize) -> Result<(), PixelError> {
    if !matches!(shape.channels, 1 | 3) {
        return Err(PixelError::Channels(shape.channels));
    }
    let expected = shape.len();
    if found != expected || expected == 0 { Err(PixelError::Length { found, expected }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREY: ImageShape = ImageShape { channels: 1, height: 1, width: 2 };

    #[test]
    fn values_are_clamped_and_rounded() {
        let shape = ImageShape { width: 7, ..GREY };
        let values = [-7.0, -1.0, 0.0, 0.999, 1.0, f32::INFINITY, f32::NAN];
        assert_eq!(to_bytes([-1.0, 1.0], &values, shape).unwrap(), [0, 0, 128, 255, 255, 255, 0]);
        assert_eq!(to_bytes([0.0, 255.0], &[0.4, 0.5, 1.6, 0.0, 0.0, 0.0, 254.0], shape).unwrap()[..3], [0, 1, 2]);
    }

    #[test]
    fn levels_stay_what_they_are() {
        let shape = ImageShape { width: 256, ..GREY };
        let levels: Vec<f32> = (0..=255u8).map(f32::from).collect();
        assert_eq!(to_bytes(Pixels::LEVELS, &levels, shape).unwrap(), (0..=255).collect::<Vec<u8>>());
        assert_eq!("uint8".parse::<Pixels>().unwrap().to_string(), "uint8");
        assert!("u8".parse::<Pixels>().unwrap_err().contains("float and uint8"));
    }

    #[test]
    fn planes_become_pixels() {
        let colour = ImageShape { channels: 3, ..GREY };
        let planar = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(to_bytes([0.0, 255.0], &planar, colour).unwrap(), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn bytes_are_the_levels_of_values() {
        let colour = ImageShape { channels: 3, height: 13, width: 47 };
        let mut planar: Vec<f32> = (0..colour.len()).map(|i| (i as f32 - 900.0) * 1.7e-3).collect();
        planar[5..9].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]);
        let bytes = to_bytes([-1.0, 1.0], &planar, colour).unwrap();
        for (position, pixel) in bytes.chunks_exact(3).enumerate() {
            let wanted = |channel: usize| level([-1.0, 1.0], planar[channel * 13 * 47 + position]) as u8;
            assert_eq!(pixel, [wanted(0), wanted(1), wanted(2)], "{position}");
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let latent = ImageShape { channels: 4, ..GREY };
        assert_eq!(to_bytes([0.0, 1.0], &[0.0; 8], latent), Err(PixelError::Channels(4)));
        assert_eq!(to_bytes([0.0, 1.0], &[0.0], GREY), Err(PixelError::Length { found: 1, expected: 2 }));
        assert!(sheet(&[vec![0; 3]], GREY, 1).is_err());
        assert!(to_bytes([0.0, 1.0], &[], ImageShape { width: 0, ..GREY }).is_err());
    }

    #[test]
    fn a_sheet_keeps_order_and_gap() {
        let images: Vec<Vec<u8>> = (0..3).map(|level| vec![level; 2]).collect();
        let (whole, bytes) = sheet(&images, GREY, 2).unwrap();
        assert_eq!((whole.width, whole.height), (6, 4));
        let row = |number: usize| &bytes[number * 6..][..6];
        assert_eq!(row(0), [0, 0, 255, 255, 1, 1]);
        assert_eq!(row(1), [255; 6]);
        assert_eq!(row(3), [2, 2, 255, 255, 255, 255]);
    }
}
