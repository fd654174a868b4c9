//! JPEG and WebP files that say how they were made.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::error::{ImageError, ParameterError, ParameterErrorKind};
use image::{ExtendedColorType, ImageEncoder};

use super::Picture;

/// Of 100: hardly to be told from the PNG. Colours keep their full resolution.
const JPEG_QUALITY: u8 = 95;

/// Encodes a JPEG with `exif` in its APP1 segment. Equal pictures give equal bytes.
///
/// # Errors
/// Only sizes that JPEG cannot hold.
pub(super) fn jpeg(picture: &Picture, exif: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    let mut file = Vec::new();
    write(JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY), picture, exif)?;
    Ok(file)
}

/// Encodes a WebP without loss, with `exif` in a chunk of its own. Equal pictures give equal bytes.
///
/// # Errors
/// Only sizes that WebP cannot hold.
pub(super) fn webp(picture: &Picture, exif: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    let mut file = Vec::new();
    write(WebPEncoder::new_lossless(&mut file), picture, exif)?;
    Ok(file)
}

fn write(mut encoder: impl ImageEncoder, picture: &Picture, exif: Vec<u8>) -> Result<(), ImageError> {
    let shape = picture.shape;
    let too_large = || ImageError::Parameter(ParameterError::from_kind(ParameterErrorKind::DimensionMismatch));
    let size = |length: usize| u32::try_from(length).map_err(|_| too_large());
    // The encoders panic where these disagree.
    if picture.pixels.len() != shape.len() {
        return Err(too_large());
    }
    encoder.set_exif_metadata(exif).map_err(ImageError::Unsupported)?;
    let colour = if shape.channels == 3 { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    encoder.write_image(picture.pixels, size(shape.width)?, size(shape.height)?, colour)
}

#[cfg(test)]
mod tests {
    use drifting_spec::ImageShape;
    use image::codecs::jpeg::JpegDecoder;
    use image::codecs::webp::WebPDecoder;
    use image::{ColorType, ImageDecoder};

    use super::*;

    fn decode(mut decoder: impl ImageDecoder, exif: &[u8]) -> (ColorType, Vec<u8>) {
        assert_eq!(decoder.exif_metadata().unwrap().unwrap(), exif);
        let (colour, mut pixels) = (decoder.color_type(), vec![0; decoder.total_bytes() as usize]);
        decoder.read_image(&mut pixels).unwrap();
        (colour, pixels)
    }

    #[test]
    fn pixels_and_text_come_back() {
        let exif = [b"II*\0\x08\0\0\0\0\0\0\0\0\0", &[7; 9][..]].concat();
        for channels in [1, 3] {
            let shape = ImageShape { channels, height: 16, width: 24 };
            let pixels: Vec<u8> = (0..shape.len()).map(|number| (number * 200 / shape.len()) as u8).collect();
            let picture = Picture { shape, pixels: &pixels };
            let file = webp(&picture, exif.clone()).unwrap();
            let (colour, found) = decode(WebPDecoder::new(std::io::Cursor::new(&file)).unwrap(), &exif);
            // WebP has no grey of its own.
            let expected =
                if channels == 1 { pixels.iter().flat_map(|&level| [level; 3]).collect() } else { pixels.clone() };
            assert_eq!((colour, found), (ColorType::Rgb8, expected));
            assert_eq!(file, webp(&picture, exif.clone()).unwrap());

            let file = jpeg(&picture, exif.clone()).unwrap();
            let (colour, found) = decode(JpegDecoder::new(std::io::Cursor::new(&file)).unwrap(), &exif);
            assert_eq!(colour, if channels == 3 { ColorType::Rgb8 } else { ColorType::L8 });
            assert!(found.iter().zip(&pixels).all(|(&found, &level)| found.abs_diff(level) <= 4), "{found:?}");
            assert_eq!(file, jpeg(&picture, exif.clone()).unwrap());
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let picture = |width, pixels| Picture { shape: ImageShape { channels: 1, height: 1, width }, pixels };
        assert!(webp(&picture(16385, &[0; 16385]), Vec::new()).is_err());
        assert!(jpeg(&picture(65536, &[0; 65536]), Vec::new()).is_err());
        assert!(jpeg(&picture(2, &[0]), Vec::new()).is_err());
        assert!(webp(&picture(16384, &[0; 16384]), Vec::new()).is_ok());
        assert!(jpeg(&picture(65535, &[0; 65535]), Vec::new()).is_ok());
    }
}
