//! NumPy's array files (format 1.0), as `numpy.load` reads them.

use drifting_spec::ImageShape;

/// Bytes that a header is a multiple of.
const ALIGNMENT: usize = 64;

/// The levels of all images (interleaved, each of `shape`) as an array uint8 `[n, height, width, channels]`.
pub(super) fn encode(images: &[Vec<u8>], shape: ImageShape) -> Vec<u8> {
    let ImageShape { channels, height, width } = shape;
    let about = format!(
        "{{'descr': '|u1', 'fortran_order': False, 'shape': ({}, {height}, {width}, {channels}), }}",
        images.len()
    );
    // Magic, version and length before it, one line feed behind.
    let length = (10 + about.len() + 1).next_multiple_of(ALIGNMENT) - 10;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((length as u16).to_le_bytes());
    file.extend(format!("{about:<0$}\n", length - 1).as_bytes());
    images.iter().for_each(|image| file.extend(image));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.save` (2.4) of `numpy.arange(12, dtype="uint8").reshape(2, 1, 2, 3)`.
    #[test]
    fn it_is_what_numpy_writes() {
        let shape = ImageShape { channels: 3, height: 1, width: 2 };
        let file = encode(&[vec![0, 1, 2, 3, 4, 5], vec![6, 7, 8, 9, 10, 11]], shape);
        let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1, 2, 3), }";
        let expected = format!("\u{1}\0\u{76}\0{text:<117}\n\0\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{9}\u{a}\u{b}");
        assert_eq!(&file[..6], b"\x93NUMPY");
        assert_eq!(&file[6..], expected.as_bytes());
        assert_eq!((file.len() - 12) % ALIGNMENT, 0);
    }
}
