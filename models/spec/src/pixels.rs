//! From a generator's output to 8-bit pixels: the one conversion that the server, `drifting sample` and the sample
//! grids of a training run share, so that the same seed gives the same picture everywhere.

use crate::ImageShape;

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
/// nearest of 256 levels. A value that is no number becomes black.
///
/// # Errors
/// Channels other than 1 and 3, and a slice that does not fit `shape`.
pub fn to_bytes(value_range: [f32; 2], planar: &[f32], shape: ImageShape) -> Result<Vec<u8>, PixelError> {
    check(shape, planar.len())?;
    let [black, white] = value_range;
    let level = |value: f32| (((value - black) / (white - black)).clamp(0.0, 1.0) * 255.0).round() as u8;
    let plane = shape.height * shape.width;
    let pixel = |position: usize| (0..shape.channels).map(move |channel| level(planar[channel * plane + position]));
    Ok((0..plane).flat_map(pixel).collect())
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
    fn planes_become_pixels() {
        let colour = ImageShape { channels: 3, ..GREY };
        let planar = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(to_bytes([0.0, 255.0], &planar, colour).unwrap(), [0, 2, 4, 1, 3, 5]);
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
