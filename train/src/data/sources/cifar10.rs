//! CIFAR-10's binary batches: records of a label byte and the red, green and blue plane of a 32 x 32 image.

use std::fs;
use std::path::{Path, PathBuf};

use drifting_spec::ImageShape;
use sha2::{Digest, Sha256};

use crate::data::dataset::hex;
use crate::data::{DataError, Dataset, Result};

/// Names of the classes.
pub const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };
const RECORD: usize = 1 + 3 * 32 * 32;

/// Names and SHA-256 of the published files.
const PUBLISHED: [(&str, &str); 6] = [
    ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
];

/// Whether the folder has batches of this part.
pub(in super::super) fn is_cifar10(folder: &Path, test: bool) -> bool {
    !batches(folder, test).is_empty()
}

fn batches(folder: &Path, test: bool) -> Vec<PathBuf> {
    let names = PUBLISHED.iter().map(|(name, _)| *name).filter(|name| name.starts_with("test") == test);
    names.map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
}

/// Reads the training or the test batches of a folder; with `verify` they must be the published ones.
pub(in super::super) fn read_cifar10(folder: &Path, test: bool, verify: bool) -> Result<Dataset> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let batches = batches(folder, test);
    if batches.is_empty() {
        let expected = if test { "test_batch.bin" } else { "data_batch_1.bin to data_batch_5.bin" };
        return Err(DataError::file(folder, format!("holds no {expected}")));
    }
    for path in batches {
        let bytes = fs::read(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        if bytes.is_empty() || bytes.len() % RECORD != 0 {
            let problem =
                format!("is {} bytes, expected a multiple of {RECORD} (a label and 3 x 32 x 32)", bytes.len());
            return Err(DataError::file(&path, problem));
        }
        if verify {
            check(&path, &bytes)?;
        }
        for (number, record) in bytes.chunks_exact(RECORD).enumerate() {
            let Some((&label, image)) = record.split_first() else { continue };
            if usize::from(label) >= CIFAR10_CLASSES.len() {
                let problem = format!("record {number} has label {label}, expected 0 to 9");
                return Err(DataError::file(&path, problem));
            }
            labels.push(usize::from(label));
            pixels.extend_from_slice(image);
        }
    }
    let data = Dataset::new(SHAPE, pixels, labels, CIFAR10_CLASSES.map(String::from).into());
    data.map_err(|error| DataError::file(folder, error.to_string()))
}

fn check(path: &Path, bytes: &[u8]) -> Result<()> {
    let found = hex(&Sha256::digest(bytes));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match PUBLISHED.iter().find(|(published, _)| *published == name) {
        Some((_, expected)) if *expected != found => {
            Err(DataError::file(path, format!("has SHA-256 {found}, the published file has {expected}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 records, two of each class.
    fn batch() -> Vec<u8> {
        let record = |number: u8| {
            let mut record = vec![number; RECORD];
            record[0] = number % 10;
            record
        };
        (0..20).flat_map(record).collect()
    }

    #[test]
    fn batches_are_read_in_order_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let problem = |test, verify| read_cifar10(folder.path(), test, verify).unwrap_err().to_string();
        assert!(problem(false, false).ends_with("holds no data_batch_1.bin to data_batch_5.bin"));
        fs::write(path("data_batch_2.bin"), batch()).unwrap();
        fs::write(path("data_batch_1.bin"), batch()).unwrap();
        let data = read_cifar10(folder.path(), false, false).unwrap();
        assert_eq!((data.len(), data.labels()[13], data.of_class(9)), (40, 3, &[9, 19, 29, 39][..]));
        assert!(is_cifar10(folder.path(), false) && !is_cifar10(folder.path(), true));
        assert!(problem(false, true).contains("the published file has cee916563c9f80d8"));
        fs::write(path("data_batch_2.bin"), &batch()[1..]).unwrap();
        assert!(problem(false, false).contains("data_batch_2.bin: is 61459 bytes, expected a multiple of 3073"));
        let mut wrong = batch();
        wrong[RECORD] = 10;
        fs::write(path("test_batch.bin"), wrong).unwrap();
        assert!(problem(true, false).ends_with("record 1 has label 10, expected 0 to 9"));
        fs::write(path("test_batch.bin"), b"").unwrap();
        assert!(problem(true, false).contains("is 0 bytes"));
    }
}
