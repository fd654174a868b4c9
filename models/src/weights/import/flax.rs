//! Flax trees in msgpack: maps of maps whose leaves are arrays.

use std::collections::BTreeMap;
use std::io::{self, Read};

use candle_core::{DType, Device, Tensor};
use rmpv::ValueRef;
use rmpv::decode::read_value_ref_with_max_depth;
use rmpv::decode::value_ref::BorrowRead;

/// The msgpack extension type of an array.
const ARRAY: i8 = 1;
/// Marks a map that is an array in pieces.
const CHUNKED: &str = "__msgpack_chunked_array__";
/// Levels of msgpack values; a tree of ours has six levels, each of which the decoder counts up to three times.
const MAX_DEPTH: usize = 64;
/// Bytes of a file that are not names or numbers; each can become a value of 40 bytes in memory.
const MAX_STRUCTURE: usize = 1 << 20;

/// The arrays of a tree by path, parts joined by `/`. Taking one hands it out once.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    arrays: BTreeMap<String, Array<'a>>,
}

/// An array in the file's layout, little endian.
#[derive(Debug)]
struct Array<'a> {
    shape: Vec<usize>,
    dtype: DType,
    pieces: Vec<&'a [u8]>,
}

impl<'a> Tree<'a> {
    /// Reads a tree. The arrays stay where they are.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let ValueRef::Map(entries) = decode(bytes)? else { return Err("holds no tree of parameters".to_owned()) };
        let mut tree = Self { arrays: BTreeMap::new() };
        tree.collect("", entries)?;
        Ok(tree)
    }

    /// The array at `path` in f32; it must have `shape` and hold finite numbers.
    pub(super) fn take(&mut self, path: &str, shape: &[usize]) -> Result<Tensor, String> {
        let Some(array) = self.arrays.remove(path) else {
            return Err(format!("tensor {path} is missing (expected shape {shape:?})"));
        };
        if array.shape != shape {
            return Err(format!("tensor {path} has shape {:?}, expected {shape:?}", array.shape));
        }
        let tensor = array.tensor().map_err(|error| format!("tensor {path}: {error}"))?;
        let sum = tensor.abs().and_then(|tensor| tensor.sum_all()).and_then(|sum| sum.to_scalar::<f32>());
        match sum {
            Ok(sum) if sum.is_finite() => Ok(tensor),
            Ok(_) => Err(format!("tensor {path} holds NaN or infinite numbers")),
            Err(error) => Err(format!("tensor {path}: {error}")),
        }
    }

    /// A path that nobody took.
    pub(super) fn rest(&self) -> Option<&str> {
        self.arrays.keys().next().map(String::as_str)
    }

    fn collect(&mut self, prefix: &str, entries: Vec<(ValueRef<'a>, ValueRef<'a>)>) -> Result<(), String> {
        for (key, value) in entries {
            let Some(key) = text(&key) else { return Err(format!("tensor {prefix}: a name that is no text")) };
            let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") };
            let problem = |problem: String| format!("tensor {path}: {problem}");
            let array = match value {
                ValueRef::Map(entries) if entries.iter().any(|(key, _)| text(key) == Some(CHUNKED)) => {
                    Array::chunked(&entries).map_err(problem)?
                }
                ValueRef::Map(entries) => {
                    self.collect(&path, entries)?;
                    continue;
                }
                value => Array::whole(&value).map_err(problem)?,
            };
            if self.arrays.insert(path.clone(), array).is_some() {
                return Err(format!("tensor {path} occurs twice"));
            }
        }
        Ok(())
    }
}

impl<'a> Array<'a> {
    /// Extension 1 around [shape, name of the type, bytes].
    fn whole(value: &ValueRef<'a>) -> Result<Self, String> {
        let ValueRef::Ext(ARRAY, bytes) = *value else { return Err("neither an array nor a map".to_owned()) };
        let ValueRef::Array(parts) = decode(bytes)? else { return Err("an array without shape and type".to_owned()) };
        let [shape, dtype, ValueRef::Binary(bytes)] = parts.as_slice() else {
            return Err("an array that is not [shape, type, bytes]".to_owned());
        };
        let dtype = match text(dtype).unwrap_or("unnamed") {
            "float32" => DType::F32,
            "float16" => DType::F16,
            "bfloat16" => DType::BF16,
            other => return Err(format!("type {other}; float32, float16 and bfloat16 can be read")),
        };
        Self { shape: sizes(shape)?, dtype, pieces: vec![bytes] }.checked()
    }

    /// A map of the whole `shape` and flat `chunks`; lists are maps from "0", "1", ...
    fn chunked(entries: &[(ValueRef<'a>, ValueRef<'a>)]) -> Result<Self, String> {
        let part = |name: &str| {
            let entry = entries.iter().find(|(key, _)| text(key) == Some(name));
            entry.map(|(_, value)| value).ok_or_else(|| format!("an array in chunks without {name}"))
        };
        let shape = sizes(part("shape")?)?;
        let chunks = items(part("chunks")?)?.into_iter().map(Self::whole).collect::<Result<Vec<_>, _>>()?;
        let Some(dtype) = chunks.first().map(|chunk| chunk.dtype) else { return Err("no chunks".to_owned()) };
        if chunks.iter().any(|chunk| chunk.dtype != dtype) {
            return Err("chunks of different types".to_owned());
        }
        let pieces = chunks.into_iter().flat_map(|chunk| chunk.pieces).collect();
        Self { shape, dtype, pieces }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        let found: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        let factors = self.shape.iter().copied().chain([self.dtype.size_in_bytes()]);
        if factors.into_iter().try_fold(1usize, usize::checked_mul) != Some(found) {
            return Err(format!("{found} bytes for shape {:?} of {:?}", self.shape, self.dtype));
        }
        Ok(self)
    }

    fn tensor(&self) -> candle_core::Result<Tensor> {
        let tensor = |bytes: &[u8]| Tensor::from_raw_buffer(bytes, self.dtype, &self.shape, &Device::Cpu);
        match self.pieces.as_slice() {
            [bytes] => tensor(bytes)?,
            pieces => tensor(&pieces.concat())?,
        }
        .to_dtype(DType::F32)
    }
}

/// A list, or the map from "0", "1", ... that flax makes of it.
fn items<'v, 'a>(value: &'v ValueRef<'a>) -> Result<Vec<&'v ValueRef<'a>>, String> {
    match value {
        ValueRef::Array(items) => Ok(items.iter().collect()),
        ValueRef::Map(entries) => {
            let index = |key| text(key).and_then(|key| key.parse::<usize>().ok()).unwrap_or(usize::MAX);
            let mut items: Vec<_> = entries.iter().map(|(key, item)| (index(key), item)).collect();
            items.sort_by_key(|&(index, _)| index);
            match items.iter().enumerate().find(|(expected, (index, _))| expected != index) {
                Some((missing, _)) => Err(format!("a list without item {missing}")),
                None => Ok(items.into_iter().map(|(_, item)| item).collect()),
            }
        }
        _ => Err("neither a list nor a map of its items".to_owned()),
    }
}

fn sizes(value: &ValueRef<'_>) -> Result<Vec<usize>, String> {
    let size = |item: &ValueRef<'_>| match item {
        ValueRef::Integer(size) => size.as_u64().and_then(|size| usize::try_from(size).ok()),
        _ => None,
    };
    items(value)?.into_iter().map(|item| size(item).ok_or_else(|| format!("a shape with {item}"))).collect()
}

fn text<'v>(value: &'v ValueRef<'_>) -> Option<&'v str> {
    match value {
        ValueRef::String(text) => text.as_str(),
        _ => None,
    }
}

/// The one value that `bytes` are.
fn decode(bytes: &[u8]) -> Result<ValueRef<'_>, String> {
    let mut reader = Reader { rest: bytes, structure: MAX_STRUCTURE };
    let value = read_value_ref_with_max_depth(&mut reader, MAX_DEPTH)
        .map_err(|error| format!("no msgpack at byte {}: {error}", bytes.len() - reader.rest.len()))?;
    match reader.rest.len() {
        0 => Ok(value),
        left => Err(format!("{left} bytes follow the end of the msgpack")),
    }
}

/// Reads from memory and refuses too much structure: rmpv reads markers and lengths byte-wise, contents by borrowing.
struct Reader<'a> {
    rest: &'a [u8],
    structure: usize,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.rest.read(buffer)?;
        self.structure = self.structure.checked_sub(read).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "more values than a tree of parameters can have")
        })?;
        Ok(read)
    }
}

impl<'a> BorrowRead<'a> for Reader<'a> {
    fn fill_buf(&self) -> &'a [u8] {
        self.rest
    }

    fn consume(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
    }
}
