//! Safetensors with a text header, written beside, synced and renamed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{Device, Tensor};
use safetensors::tensor::{Metadata, TensorView};
use sha2::{Digest, Sha256};

use super::torch;
use crate::{Error, Result};

/// A weight file that was read.
#[derive(Debug)]
pub struct WeightFile {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The text entries of the header.
    pub metadata: BTreeMap<String, String>,
    /// SHA-256 of the whole file in hexadecimal.
    pub sha256: String,
}

/// Writes tensors and text entries to `path`: the file is complete or not there. Returns its SHA-256.
///
/// # Errors
/// Names the file and the cause.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<String> {
    let file = |problem: String| Error::File { path: path.to_owned(), problem };
    // One entry at most: the safetensors crate keeps the header's entries in a hash map, and our files are compared by bytes.
    let header = match metadata.len() {
        0 => None,
        _ => {
            let json = serde_json::to_string(metadata).map_err(|error| file(error.to_string()))?;
            Some(std::collections::HashMap::from([(HEADER_KEY.to_owned(), json)]))
        }
    };
    let bytes = safetensors::serialize(tensors, header).map_err(|error| file(error.to_string()))?;
    write_bytes(path, &bytes)?;
    Ok(hex(&bytes))
}

const HEADER_KEY: &str = "drifting";

/// Writes `bytes` beside `path`, syncs them and renames the file into place.
///
/// # Errors
/// Names the file and the cause.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let mut file = File::create(&beside).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)?;
    drop(file);
    fs::rename(&beside, path).map_err(io)?;
    // The rename itself is only safe once the folder is on disk.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// The bytes of a regular file: a device may have no end, and a pipe no beginning.
///
/// # Errors
/// Names the file and the cause.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    regular(path)?;
    fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn regular(path: &Path) -> Result<()> {
    let about = fs::metadata(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    if about.is_file() {
        return Ok(());
    }
    Err(Error::File { path: path.to_owned(), problem: "is no regular file".to_owned() })
}

/// Reads all tensors of a safetensors file, one after another: never more than one is in memory twice.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn read(path: &Path, device: &Device) -> Result<WeightFile> {
    regular(path)?;
    let io = |source| Error::Io { path: path.to_owned(), source };
    let problem = |problem: String| Error::File { path: path.to_owned(), problem };
    let mut file =
        Hashed { file: BufReader::with_capacity(1 << 20, File::open(path).map_err(io)?), hash: Sha256::new() };
    let length = file.header_length().map_err(io)?;
    if length > MAX_HEADER {
        return Err(problem(format!("a header of {length} bytes: this is no safetensors file")));
    }
    let header = file.take(length).map_err(io)?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|error| problem(error.to_string()))?;
    let entry = header.metadata().as_ref().and_then(|entries| entries.get(HEADER_KEY));
    let metadata = match entry {
        Some(json) => serde_json::from_str(json).map_err(|error| problem(format!("header: {error}")))?,
        None => BTreeMap::new(),
    };
    let mut infos: Vec<_> = header.tensors().into_iter().collect();
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let (mut tensors, mut at) = (BTreeMap::new(), 0);
    for (name, info) in infos {
        let (start, end) = info.data_offsets;
        let Some(length) = end.checked_sub(start).filter(|_| start == at) else {
            return Err(problem(format!("{name} lies at bytes {start} to {end}, expected to begin at {at}")));
        };
        let bytes = file.take(length as u64).map_err(io)?;
        if bytes.len() != length {
            return Err(problem(format!("is cut short: {name} needs {length} bytes, {} are there", bytes.len())));
        }
        at = end;
        let view =
            TensorView::new(info.dtype, info.shape.clone(), &bytes).map_err(|error| problem(error.to_string()))?;
        let tensor = view.load(device).map_err(|error| problem(format!("{name}: {error}")))?;
        tensors.insert(name, tensor);
    }
    if !file.take(1).map_err(io)?.is_empty() {
        return Err(problem("goes on behind its last tensor".into()));
    }
    let sha256 = file.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(WeightFile { tensors, metadata, sha256 })
}

/// Reads all tensors of a published weight file: safetensors, or a state dict that PyTorch saved (`.pth`, `.pt`, `.bin`).
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn read_published(path: &Path, device: &Device) -> Result<WeightFile> {
    regular(path)?;
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut start = Vec::new();
    File::open(path).map_err(io)?.take(torch::PICKLED.len() as u64).read_to_end(&mut start).map_err(io)?;
    if !start.starts_with(torch::ZIP) && !start.starts_with(torch::PICKLED) {
        return read(path, device);
    }
    let bytes = read_bytes(path)?;
    let tensors = torch::tensors(&bytes, device).map_err(|problem| Error::File { path: path.to_owned(), problem })?;
    Ok(WeightFile { tensors, metadata: BTreeMap::new(), sha256: hex(&bytes) })
}

/// A file that is hashed as it is read.
struct Hashed {
    file: BufReader<File>,
    hash: Sha256,
}

impl Hashed {
    fn header_length(&mut self) -> std::io::Result<u64> {
        let bytes = self.take(8)?;
        let bytes: [u8; 8] = bytes.try_into().map_err(|_| std::io::ErrorKind::UnexpectedEof)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The next `length` bytes, or all that are left; takes no more memory than the file has.
    fn take(&mut self, length: u64) -> std::io::Result<Vec<u8>> {
        let left = self.file.get_ref().metadata()?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(length.min(left)).unwrap_or_default());
        self.file.by_ref().take(length).read_to_end(&mut bytes)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }
}

/// The text entries of a safetensors file's header; the tensors are not read.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let problem = |problem: String| Error::File { path: path.to_owned(), problem };
    regular(path)?;
    let mut file = File::open(path).map_err(io)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(problem(format!("a header of {length} bytes: this is no safetensors file")));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(io)?;
    let header: serde_json::Value = serde_json::from_slice(&header).map_err(|error| problem(error.to_string()))?;
    match header.get("__metadata__").and_then(|entries| entries.get(HEADER_KEY)).and_then(serde_json::Value::as_str) {
        Some(json) => serde_json::from_str(json).map_err(|error| problem(format!("header: {error}"))),
        None => Ok(BTreeMap::new()),
    }
}

/// Longest header that is read, in bytes.
const MAX_HEADER: u64 = 100 << 20;

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let tensors = BTreeMap::from([("a.b".to_owned(), Tensor::new(&[[1.0f32, 2.0]], &Device::Cpu).unwrap())]);
        let metadata = BTreeMap::from([("step".to_owned(), "7".to_owned()), ("kind".to_owned(), "ema".to_owned())]);
        let sha256 = write(&path, &tensors, &metadata).unwrap();
        let found = read(&path, &Device::Cpu).unwrap();
        assert_eq!(read_metadata(&path).unwrap(), metadata);
        assert_eq!((found.metadata, &found.sha256), (metadata, &sha256));
        assert_eq!(found.tensors["a.b"].to_vec2::<f32>().unwrap(), [[1.0, 2.0]]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.safetensors");
        for bytes in [&[9, 0, 0, 0][..], &[255; 20], &[3, 0, 0, 0, 0, 0, 0, 0, b'{']] {
            fs::write(&path, bytes).unwrap();
            assert!(read(&path, &Device::Cpu).unwrap_err().to_string().contains("broken.safetensors"));
            assert!(read_metadata(&path).unwrap_err().to_string().contains("broken.safetensors"));
        }
    }
}
