//! PNG files that say how they were made.

use super::{Origin, Picture, SOFTWARE};

/// Keys (at most 79 Latin letters) and values that are written into a file.
pub(super) type Text = [(&'static str, String)];

/// What an image was made from.
pub(super) fn text(origin: &Origin, index: &str) -> [(&'static str, String); 7] {
    let order = origin.order;
    [
        ("Software", SOFTWARE.to_owned()),
        ("Seed", order.seed.to_string()),
        ("Index", index.to_owned()),
        ("Class", order.class.to_string()),
        ("Class name", origin.class_name.to_owned()),
        ("Alpha", order.alpha.to_string()),
        ("Model SHA-256", origin.model.to_owned()),
    ]
}

/// Encodes an image. Equal pictures give equal bytes: no time and no machine is written.
///
/// # Errors
/// Only sizes that PNG cannot hold.
pub(super) fn encode(picture: &Picture, text: &Text) -> Result<Vec<u8>, png::EncodingError> {
    let size = |length: usize| u32::try_from(length).map_err(|_| png::EncodingError::LimitsExceeded);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size(picture.shape.width)?, size(picture.shape.height)?);
    encoder.set_color(if picture.shape.channels == 3 { png::ColorType::Rgb } else { png::ColorType::Grayscale });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    for (key, value) in text {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        // tEXt holds Latin-1 only.
        if value.chars().all(|c| u32::from(c) < 256) {
            encoder.add_text_chunk((*key).to_owned(), value)?;
        } else {
            encoder.add_itxt_chunk((*key).to_owned(), value)?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.pixels)?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use drifting_spec::ImageShape;

    use super::*;

    #[test]
    fn pixels_and_text_come_back() {
        let shape = ImageShape { channels: 3, height: 1, width: 2 };
        let text = [("Class name", "Été\0".to_owned()), ("Label", "鞄".to_owned())];
        let picture = Picture { shape, pixels: &[1, 2, 3, 4, 5, 6] };
        let file = encode(&picture, &text).unwrap();
        assert_eq!(file, encode(&picture, &text).unwrap());
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [1, 2, 3, 4, 5, 6]);
        let info = reader.info();
        assert_eq!(info.uncompressed_latin1_text[0].text, "Été");
        assert_eq!(info.utf8_text[0].get_text().unwrap(), "鞄");
    }
}
