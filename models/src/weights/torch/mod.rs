//! Weight files of PyTorch: what `torch.save` writes of a state dict, as a zip archive (since 1.6) or one pickle after the
//! other (before; so are the weights that FID is defined by).

mod pickle;
mod zip;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use self::pickle::{Object, Objects, Place};

/// First bytes of a zip archive.
pub(super) const ZIP: &[u8] = b"PK\x03\x04";
/// The start of the older files: a pickle of a number that stands for them.
pub(super) const PICKLED: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Tensors may share their numbers, but hold no more than so many times the file's bytes altogether.
const SHARED: usize = 4;

/// What is wrong, without the file's name.
type Result<T> = std::result::Result<T, String>;

/// The tensors of a file's bytes by their names.
///
/// # Errors
/// What is wrong, without the file's name.
pub(super) fn tensors(bytes: &[u8], device: &Device) -> Result<BTreeMap<String, Tensor>> {
    if bytes.starts_with(ZIP) {
        let files = zip::files(bytes)?;
        let (folder, mut pickle) = files
            .iter()
            .find_map(|(name, file)| Some((name.strip_suffix("data.pkl")?, *file)))
            .ok_or("no data.pkl in the zip archive")?;
        let (objects, top) = pickle::read(&mut pickle)?;
        let key = |name: &str| Some(name.strip_prefix(folder)?.strip_prefix("data/")?.to_owned());
        let storages = files.iter().filter_map(|(name, file)| Some((key(name)?, *file))).collect();
        return state_dict((&objects, top), &storages, SHARED * bytes.len(), device);
    }
    let mut rest = bytes.strip_prefix(PICKLED).ok_or("not what torch.save writes")?;
    let _version = pickle::read(&mut rest)?;
    let _machine = pickle::read(&mut rest)?;
    let (objects, top) = pickle::read(&mut rest)?;
    let storages = in_order(&objects, rest)?;
    state_dict((&objects, top), &storages, SHARED * bytes.len(), device)
}

/// The numbers of storages that follow each other, each behind its length, in the order of a list of their keys.
fn in_order<'a>(objects: &Objects, mut rest: &'a [u8]) -> Result<BTreeMap<String, &'a [u8]>> {
    let mut kinds = BTreeMap::new();
    for identity in objects.elsewhere() {
        let storage = Storage::of(objects, identity)?;
        kinds.insert(storage.key, storage.kind);
    }
    let (keys, list) = pickle::read(&mut rest)?;
    let mut storages = BTreeMap::new();
    for key in keys.tuple(list).ok_or("no list of storages")? {
        let key = keys.text(*key).ok_or("a storage whose key is no text")?;
        let kind = kinds.get(key).ok_or_else(|| format!("storage {key:?} that belongs to nothing"))?;
        let cut = || format!("is cut short in storage {key:?}");
        let (count, numbers) = rest.split_first_chunk().ok_or_else(cut)?;
        let bytes = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|n| n.checked_mul(kind.size_in_bytes()));
        let (numbers, left) = bytes.and_then(|bytes| numbers.split_at_checked(bytes)).ok_or_else(cut)?;
        storages.insert(key.to_owned(), numbers);
        rest = left;
    }
    Ok(storages)
}

fn state_dict(
    (objects, top): (&Objects, Place),
    storages: &BTreeMap<String, &[u8]>,
    mut most: usize,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>> {
    let entries = |place| match objects.get(place) {
        Object::Dict(entries) => Some(entries),
        _ => None,
    };
    let outer = entries(top).ok_or("holds no state dict")?;
    // What training programs save has the weights as one of several things.
    let nested = outer.iter().find(|(key, _)| objects.text(*key) == Some("state_dict"));
    let entries = nested.and_then(|(_, inner)| entries(*inner)).unwrap_or(outer);
    let mut tensors = BTreeMap::new();
    for (key, value) in entries {
        let name = objects.text(*key).ok_or("a tensor whose name is no text")?;
        let tensor = tensor(objects, *value, storages, device).map_err(|problem| format!("{name}: {problem}"))?;
        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
        most = most.checked_sub(bytes).ok_or_else(|| format!("{name}: the tensors hold far more than the file"))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

fn tensor(objects: &Objects, place: Place, storages: &BTreeMap<String, &[u8]>, device: &Device) -> Result<Tensor> {
    let mut arguments = called(objects, place, "torch._utils._rebuild_tensor_v2");
    if arguments.is_none() {
        let parameter = called(objects, place, "torch._utils._rebuild_parameter").and_then(|parts| parts.first());
        arguments = parameter.and_then(|inner| called(objects, *inner, "torch._utils._rebuild_tensor_v2"));
    }
    let Some([storage, offset, size, stride, ..]) = arguments else { return Err("is no tensor".to_owned()) };
    let Object::Elsewhere(identity) = objects.get(*storage) else { return Err("has no storage".to_owned()) };
    let Storage { kind, key } = Storage::of(objects, *identity)?;
    let numbers = storages.get(key).ok_or_else(|| format!("storage {key:?} is not in the file"))?;
    let wrong = || "has sizes that are none".to_owned();
    let (offset, size) = objects.number(*offset).zip(objects.numbers(*size)).ok_or_else(wrong)?;
    let stride = objects.numbers(*stride).filter(|stride| stride.len() == size.len()).ok_or_else(wrong)?;
    let bytes = gathered(numbers, kind.size_in_bytes(), offset, &size, &stride)
        .ok_or_else(|| format!("{size:?} with strides {stride:?} lies outside of storage {key:?}"))?;
    Tensor::from_raw_buffer(&bytes, kind, &size, device).map_err(|error| error.to_string())
}

/// The arguments of a call of `name`.
fn called<'a>(objects: &'a Objects, place: Place, name: &str) -> Option<&'a [Place]> {
    let Object::Call(callable, arguments) = objects.get(place) else { return None };
    matches!(objects.get(*callable), Object::Global(found) if found == name).then(|| objects.tuple(*arguments))?
}

/// The numbers of a tensor row by row, each of `width` bytes; none where they do not lie in `storage`.
fn gathered(storage: &[u8], width: usize, offset: usize, size: &[usize], stride: &[usize]) -> Option<Vec<u8>> {
    let count = size.iter().try_fold(1usize, |count, size| count.checked_mul(*size))?;
    // Fewer than the storage holds: a file may not ask for more memory than it has.
    if count > storage.len() / width {
        return None;
    }
    let mut bytes = Vec::with_capacity(count * width);
    let mut index = vec![0; size.len()];
    for _ in 0..count {
        let steps = index.iter().zip(stride).map(|(index, stride): (&usize, _)| index.checked_mul(*stride));
        let at = steps.sum::<Option<usize>>()?.checked_add(offset)?.checked_mul(width)?;
        bytes.extend(storage.get(at..at.checked_add(width)?)?);
        for (index, size) in index.iter_mut().zip(size).rev() {
            *index = (*index + 1) % size;
            if *index > 0 {
                break;
            }
        }
    }
    Some(bytes)
}

/// Numbers that lie together.
struct Storage<'a> {
    kind: DType,
    key: &'a str,
}

impl<'a> Storage<'a> {
    /// From the identity that a pickle has for it: `("storage", class, key, device, numbers)`.
    fn of(objects: &'a Objects, identity: Place) -> Result<Self> {
        let Some([_, class, key, ..]) = objects.tuple(identity) else { return Err("a storage without a key".into()) };
        let Object::Global(class) = objects.get(*class) else { return Err("a storage without a class".into()) };
        let kind = match class.as_str() {
            "torch.FloatStorage" => DType::F32,
            "torch.DoubleStorage" => DType::F64,
            "torch.HalfStorage" => DType::F16,
            "torch.BFloat16Storage" => DType::BF16,
            "torch.LongStorage" => DType::I64,
            "torch.IntStorage" => DType::I32,
            "torch.ByteStorage" => DType::U8,
            other => return Err(format!("a storage of kind {other}, which weights do not have")),
        };
        Ok(Self { kind, key: objects.text(*key).ok_or("a storage whose key is no text")? })
    }
}

#[cfg(test)]
mod tests;
