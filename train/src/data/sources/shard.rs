//! One file of a set of tensor shards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use drifting_spec::ImageShape;
use half::{bf16, f16};
use serde::Deserialize;

use super::read_range;
use crate::data::{DataError, Result};

/// Names of the tensors of a shard: rows, their mirror images, labels.
pub(in super::super) const ROWS: [&str; 2] = ["latents", "images"];
pub(in super::super) const MIRRORED: &str = "mirrored";
pub(in super::super) const LABELS: &str = "labels";

/// Largest header of a shard.
const MAX_HEADER: u64 = 100 << 20;

/// Numbers as a shard stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    F16,
    Bf16,
    F32,
}

impl Kind {
    fn parse(dtype: &str) -> Option<Self> {
        Some(match dtype {
            "U8" => Self::U8,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "F32" => Self::F32,
            _ => return None,
        })
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }

    pub(super) fn numbers(self, bytes: &[u8]) -> Vec<f32> {
        let pairs = bytes.as_chunks::<2>().0;
        match self {
            Self::U8 => bytes.iter().map(|&byte| f32::from(byte)).collect(),
            Self::F16 => pairs.iter().map(|&pair| f16::from_le_bytes(pair).to_f32()).collect(),
            Self::Bf16 => pairs.iter().map(|&pair| bf16::from_le_bytes(pair).to_f32()).collect(),
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
        }
    }
}

/// Where the tensors of one file begin.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) count: usize,
    pub(super) shape: ImageShape,
    pub(super) kind: Kind,
    pub(super) rows: u64,
    pub(super) mirrored: Option<u64>,
    labels: (u64, usize),
}

/// A tensor of a header.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl Shard {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let header = Header::read(&path)?;
        let [latents, images] = ROWS;
        let Some(rows) = header.tensor(latents)?.or(header.tensor(images)?) else {
            return Err(header.failed(format!("holds no tensor {latents} or {images}")));
        };
        let wrong =
            |expected: &str| header.failed(format!("rows are {} {:?}, expected {expected}", rows.dtype, rows.shape));
        let &[count, channels, height, width] = rows.shape.as_slice() else {
            return Err(wrong("[n, channels, height, width]"));
        };
        let Some(kind) = Kind::parse(&rows.dtype) else { return Err(wrong("U8, F16, BF16 or F32")) };
        if rows.shape.contains(&0) {
            return Err(wrong("no empty side"));
        }
        let start = header.place("rows", &rows, kind.bytes())?;
        let mirrored = match header.tensor(MIRRORED)? {
            Some(entry) if (&entry.shape, &entry.dtype) != (&rows.shape, &rows.dtype) => {
                let problem = format!("{MIRRORED} is {} {:?}, unlike the rows", entry.dtype, entry.shape);
                return Err(header.failed(problem));
            }
            Some(entry) => Some(header.place(MIRRORED, &entry, kind.bytes())?),
            None => None,
        };
        let labels = header.labels(count)?;
        let shape = ImageShape { channels, height, width };
        Ok(Self { size: header.size, count, shape, kind, rows: start, mirrored, labels, path })
    }

    pub(super) fn labels(&self) -> Result<Vec<u32>> {
        let (start, width) = self.labels;
        let bytes = read_range(&self.path, start, self.count * width)?;
        let label = |bytes: &[u8]| {
            let negative = bytes.len() > 1 && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
            let value = bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
            u32::try_from(value).ok().filter(|_| !negative)
        };
        let labels: Option<Vec<u32>> = bytes.chunks_exact(width).map(label).collect();
        labels.ok_or_else(|| DataError::file(&self.path, "holds a negative or too large label"))
    }
}

/// The header of a file.
struct Header<'a> {
    path: &'a Path,
    /// Size of the file.
    size: u64,
    /// Where its data begin.
    data: u64,
    entries: BTreeMap<String, serde_json::Value>,
}

impl<'a> Header<'a> {
    fn read(path: &'a Path) -> Result<Self> {
        let io = |source| DataError::Io { path: path.to_owned(), source };
        let cut = |problem: String| DataError::file(path, format!("is no whole safetensors file: {problem}"));
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| cut(format!("{size} bytes")))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length + 8 > size {
            return Err(cut(format!("a header of {length} bytes in a file of {size}")));
        }
        let bytes = read_range(path, 8, length as usize)?;
        let entries = serde_json::from_slice(&bytes).map_err(|error| cut(format!("header: {error}")))?;
        Ok(Self { path, size, data: 8 + length, entries })
    }

    fn failed(&self, problem: impl Into<String>) -> DataError {
        DataError::file(self.path, problem)
    }

    fn tensor(&self, name: &str) -> Result<Option<Entry>> {
        let Some(value) = self.entries.get(name) else { return Ok(None) };
        let entry = Entry::deserialize(value);
        entry.map(Some).map_err(|error| self.failed(format!("header: {name}: {error}")))
    }

    /// Where a tensor of numbers of `bytes` bytes begins; its place must have the size of its shape and lie in the file.
    fn place(&self, name: &str, entry: &Entry, bytes: usize) -> Result<u64> {
        let wanted = entry.shape.iter().try_fold(bytes as u64, |all, &side| all.checked_mul(side as u64));
        let [from, to] = entry.data_offsets;
        let fits = wanted.is_some() && to.checked_sub(from) == wanted;
        match self.data.checked_add(to) {
            Some(end) if fits && end <= self.size => Ok(self.data + from),
            _ => {
                let (shape, size) = (&entry.shape, self.size);
                Err(self.failed(format!("is cut off or broken: {name} {shape:?} does not fit into {size} bytes")))
            }
        }
    }

    /// Where the labels begin and the bytes of each.
    fn labels(&self, count: usize) -> Result<(u64, usize)> {
        let labels = self.tensor(LABELS)?.ok_or_else(|| self.failed(format!("holds no tensor {LABELS}")))?;
        let width = match labels.dtype.as_str() {
            "U8" => 1,
            "I32" => 4,
            "I64" => 8,
            other => return Err(self.failed(format!("{LABELS} are {other}, expected U8, I32 or I64"))),
        };
        if labels.shape != [count] {
            return Err(self.failed(format!("{LABELS} are {:?}, expected [{count}]", labels.shape)));
        }
        Ok((self.place(LABELS, &labels, width)?, width))
    }
}
