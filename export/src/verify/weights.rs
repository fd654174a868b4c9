//! Reads the weights back out of a model.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::file::ModelFile;
use crate::Result;
use crate::graph::{CHANNELS_FIRST, DType, Data, EIGHT_BITS, SCALES, TRANSPOSED};
use crate::model::data;
use crate::proto::{DataType, Place};

/// What may be left of a weight's largest number after 8 bits: half a level, and what f32 rounds.
const HALF_A_LEVEL: f32 = 0.5001;

/// The parameters that the model lacks or holds with other numbers: compared bit for bit, after the rounding that the
/// model's element type asks for; weights in 8 bits to half a level. One weight is in memory at a time.
///
/// # Errors
/// A parameter that cannot be read from its tensor or from the model.
pub(super) fn differences(file: &ModelFile, weights: &BTreeMap<String, Tensor>) -> Result<Vec<String>> {
    let stored: BTreeMap<&str, (i32, &Place)> =
        file.constants().map(|(tensor, place)| (tensor.name.as_str(), (tensor.data_type, place))).collect();
    let find = |name: &str, ending: &str| stored.get(format!("{name}{ending}").as_str()).copied();
    let mut differences = Vec::new();
    for (name, tensor) in weights {
        let own = data(name, tensor)?;
        let others = if let (Some((_, levels)), Some((_, scales))) =
            (find(name, &format!("{TRANSPOSED}{EIGHT_BITS}")), find(name, SCALES))
        {
            far(&file.numbers(levels)?, &file.numbers(scales)?, &own.transposed().bytes()?)
        } else {
            let found = find(name, "").map(|found| (found, own.clone()));
            let found = found.or_else(|| Some((find(name, TRANSPOSED)?, own.clone().transposed())));
            let found = found.or_else(|| Some((find(name, CHANNELS_FIRST)?, own.clone().channels_first())));
            let Some(((dtype, place), own)) = found else {
                differences.push(format!("weights: {name} is not in the model"));
                continue;
            };
            count(&file.numbers(place)?, &rounded(own, dtype))?
        };
        if others > 0 {
            differences.push(format!("weights: {name} has {others} other numbers in the model"));
        }
    }
    Ok(differences)
}

/// The weight in the element type that the model holds it in.
fn rounded(data: Data, dtype: i32) -> Data {
    match DataType::try_from(dtype) {
        Ok(DataType::Float16) => data.rounded(DType::F16),
        Ok(DataType::Bfloat16) => data.rounded(DType::Bf16),
        _ => data,
    }
}

/// Numbers that differ.
fn count(found: &[u8], expected: &Data) -> Result<usize> {
    let (size, expected) = (expected.dtype().size(), expected.bytes()?);
    let (found, expected) = (found.chunks(size), expected.chunks(size));
    let missing = found.len().abs_diff(expected.len());
    Ok(missing + found.zip(expected).filter(|(a, b)| a != b).count())
}

/// Numbers of `[in, out]` that levels and scales do not bring back to half a level.
fn far(levels: &[u8], scales: &[u8], expected: &[u8]) -> usize {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
    };
    let (scales, expected) = (floats(scales), floats(expected));
    let missing = levels.len().abs_diff(expected.len());
    let off = levels.iter().zip(&expected).zip(scales.iter().cycle()).filter(|((level, expected), scale)| {
        let found = f32::from(i8::from_le_bytes([**level])) * **scale;
        let difference = (found - **expected).abs();
        difference.is_nan() || difference > HALF_A_LEVEL * **scale
    });
    missing + off.count()
}
