//! A picture of bytes, and how files become one.

use std::io::Cursor;

use drifting_spec::ImageShape;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};

/// Largest decoded image: a broken header must not ask for all memory.
const MAX_BYTES: u64 = 512 << 20;

/// A picture of 8 bits a channel, plane after plane: `[channels, height, width]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    shape: ImageShape,
    planes: Vec<u8>,
}

impl Picture {
    /// A picture of `planes`; `None` when there are more or fewer bytes than the shape holds, or none.
    #[must_use]
    pub fn new(shape: ImageShape, planes: Vec<u8>) -> Option<Self> {
        (planes.len() == shape.len() && !planes.is_empty()).then_some(Self { shape, planes })
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// Its bytes, `[channels, height, width]`.
    #[must_use]
    pub fn planes(&self) -> &[u8] {
        &self.planes
    }

    /// Its bytes, `[channels, height, width]`.
    #[must_use]
    pub fn into_planes(self) -> Vec<u8> {
        self.planes
    }

    /// Decodes a PNG, JPEG, WebP, BMP or GIF file: turned as its EXIF data say, on white where it is transparent, grey
    /// or colour as the file is.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn decode(file: &[u8]) -> Result<Self, String> {
        let reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|error| error.to_string())?;
        let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let (width, height) = decoder.dimensions();
        if decoder.total_bytes() > MAX_BYTES {
            return Err(format!("is {width} x {height}, larger than {} MiB when decoded", MAX_BYTES >> 20));
        }
        if width == 0 || height == 0 {
            return Err(format!("is {width} x {height}, without a pixel"));
        }
        let mut image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
        image.apply_orientation(orientation);
        Ok(Self::of(&image))
    }

    /// The same picture with 1 (grey, by ITU-R BT.709's luminance) or 3 channels.
    #[must_use]
    pub fn with_channels(self, channels: usize) -> Self {
        let shape = ImageShape { channels, ..self.shape };
        let plane = shape.height * shape.width;
        let planes = match (self.shape.channels, channels) {
            (3, 1) => {
                let (red, rest) = self.planes.split_at(plane);
                let (green, blue) = rest.split_at(plane);
                let grey = |((&red, &green), &blue): ((&u8, &u8), &u8)| {
                    ((2126 * u32::from(red) + 7152 * u32::from(green) + 722 * u32::from(blue)) / 10_000) as u8
                };
                red.iter().zip(green).zip(blue).map(grey).collect()
            }
            (1, 3) => self.planes.repeat(3),
            _ => return self,
        };
        Self { shape, planes }
    }

    /// The mirror image, left for right.
    pub fn flip(&mut self) {
        self.planes.chunks_exact_mut(self.shape.width).for_each(<[u8]>::reverse);
    }

    fn of(image: &DynamicImage) -> Self {
        let (height, width) = (image.height() as usize, image.width() as usize);
        let shape = |channels| ImageShape { channels, height, width };
        if !image.color().has_color() && !image.color().has_alpha() {
            return Self { shape: shape(1), planes: image.to_luma8().into_raw() };
        }
        let pixels: Vec<[u8; 3]> = match image.color().has_alpha() {
            true => image.to_rgba8().pixels().map(|pixel| on_white(pixel.0)).collect(),
            false => image.to_rgb8().pixels().map(|pixel| pixel.0).collect(),
        };
        let planes = (0..3).flat_map(|channel| pixels.iter().map(move |pixel| pixel[channel])).collect();
        Self { shape: shape(3), planes }
    }
}

/// Eight bits a channel; transparent parts show white.
fn on_white([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [red, green, blue].map(|value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageFormat, Rgba, RgbaImage};

    use super::*;

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, ImageFormat::Png).unwrap();
        file.into_inner()
    }

    #[test]
    fn transparent_parts_are_white() {
        let image = RgbaImage::from_fn(4, 1, |x, _| Rgba([0, 0, 0, if x < 2 { 0 } else { 255 }]));
        let found = Picture::decode(&png(&DynamicImage::ImageRgba8(image))).unwrap();
        assert_eq!(found.shape(), ImageShape { channels: 3, height: 1, width: 4 });
        assert_eq!(found.planes(), [255, 255, 0, 0].repeat(3));
    }

    #[test]
    fn channels_are_made_and_taken() {
        let grey = DynamicImage::ImageLuma8(GrayImage::from_raw(2, 1, vec![10, 200]).unwrap());
        let grey = Picture::decode(&png(&grey)).unwrap();
        let mut colour = grey.clone().with_channels(3);
        assert_eq!(colour.planes(), [10, 200, 10, 200, 10, 200]);
        assert_eq!(colour.clone().with_channels(1), grey);
        colour.flip();
        assert_eq!(colour.planes(), [200, 10, 200, 10, 200, 10]);
        let red = Picture::new(ImageShape { channels: 3, height: 1, width: 1 }, vec![255, 0, 0]).unwrap();
        assert_eq!(red.with_channels(1).planes(), [54]);
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        let file = png(&DynamicImage::ImageLuma8(GrayImage::from_pixel(30, 30, image::Luma([9]))));
        assert!(Picture::decode(&file).is_ok());
        for length in 0..file.len() - 12 {
            assert!(Picture::decode(&file[..length]).is_err(), "{length} bytes");
        }
        assert!(Picture::decode(b"hello").is_err());
        assert!(Picture::new(ImageShape { channels: 1, height: 2, width: 2 }, vec![0; 3]).is_none());
    }
}
