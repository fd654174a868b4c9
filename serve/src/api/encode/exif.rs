//! The origin of an image as Exif, for the formats that have no text of their own: two fields of a TIFF directory.

use serde_json::json;

use super::{Origin, SOFTWARE};

/// TIFF 6.0, section 8.
const IMAGE_DESCRIPTION: u16 = 0x010e;
const SOFTWARE_TAG: u16 = 0x0131;
/// Text in ASCII that ends with a zero.
const ASCII: u16 = 2;
/// Where the values begin: behind the header and a directory of two entries.
const VALUES: usize = 8 + 2 + 2 * 12 + 4;
/// Letters of a class name that are kept: a JPEG has room for 64 KiB.
const LONGEST_NAME: usize = 1000;

/// The Exif of an image: `Software`, and as `ImageDescription` a JSON object with the names of the HTTP interface.
pub(super) fn encode(origin: &Origin, index: &str) -> Vec<u8> {
    let order = origin.order;
    let class_name: String = origin.class_name.chars().take(LONGEST_NAME).collect();
    let about = json!({
        "seed": order.seed, "index": index, "class": order.class, "class_name": class_name,
        "alpha": order.alpha, "model": origin.model,
    });
    tiff(&[(IMAGE_DESCRIPTION, ascii(&about.to_string())), (SOFTWARE_TAG, SOFTWARE.to_owned())])
}

/// A directory of two texts, each long enough not to stand in its own entry.
fn tiff(texts: &[(u16, String); 2]) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0\x02\0".to_vec();
    let mut at = VALUES;
    for (tag, text) in texts {
        let length = text.len() + 1;
        file.extend([tag.to_le_bytes(), ASCII.to_le_bytes()].concat());
        file.extend([length as u32, at as u32].map(u32::to_le_bytes).concat());
        at += length;
    }
    file.extend([0; 4]);
    for (_, text) in texts {
        file.extend(text.as_bytes());
        file.push(0);
    }
    file
}

/// JSON in which everything but ASCII is escaped.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            let mut units = [0; 2];
            text.extend(letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::worker::Order;

    #[test]
    fn a_directory_of_two_texts() {
        let order = Order { class: 3, alpha: 1.5, seed: u64::MAX, count: NonZeroUsize::MIN };
        let file = encode(&Origin { order, class_name: "Été 鞄 🎒", model: "ab12" }, "0-8");
        assert_eq!(&file[..10], b"II*\0\x08\0\0\0\x02\0");
        let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let entry = |at: usize| {
            let (length, place) = (number(at + 4), number(at + 8));
            assert_eq!(file[place + length - 1], 0);
            (number(at), std::str::from_utf8(&file[place..place + length - 1]).unwrap())
        };
        let (tag, text) = entry(10);
        assert_eq!((tag, text.is_ascii()), (0x0002_010e, true));
        let about: serde_json::Value = serde_json::from_str(text).unwrap();
        let expected = json!({
            "seed": u64::MAX, "index": "0-8", "class": 3, "class_name": "Été 鞄 🎒", "alpha": 1.5, "model": "ab12",
        });
        assert_eq!(about, expected);
        assert_eq!(entry(22), (0x0002_0131, SOFTWARE));
        assert_eq!(number(34), 0);
        let long = "é".repeat(100_000);
        assert!(encode(&Origin { order, class_name: &long, model: "" }, "0").len() < 16_000);
    }
}
