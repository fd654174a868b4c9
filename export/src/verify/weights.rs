//! Reads the weights back out of a model.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::Result;
use crate::graph::{CHANNELS_FIRST, Data, TRANSPOSED};
use crate::model::data;
use crate::proto::{ModelProto, TensorProto};

/// The parameters that the model lacks or holds with other numbers; compared bit for bit.
///
/// # Errors
/// A parameter that cannot be read from its tensor.
pub(super) fn differences(model: &ModelProto, weights: &BTreeMap<String, Tensor>) -> Result<Vec<String>> {
    let stored: BTreeMap<&str, &TensorProto> =
        model.graph.iter().flat_map(|graph| &graph.initializer).map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut differences = Vec::new();
    for (name, tensor) in weights {
        let expected = data(name, tensor)?;
        let under =
            |ending: &str| stored.get(format!("{name}{ending}").as_str()).map(|found| found.raw_data.as_slice());
        let found = match (under(""), under(TRANSPOSED), under(CHANNELS_FIRST)) {
            (Some(found), _, _) => Some((found, expected)),
            (None, Some(found), _) => Some((found, expected.transposed())),
            (None, None, found) => found.map(|found| (found, expected.channels_first())),
        };
        match found {
            None => differences.push(format!("weights: {name} is not in the model")),
            Some((found, expected)) if found != expected.bytes() => {
                differences.push(format!("weights: {name} has {} other numbers in the model", count(found, &expected)));
            }
            Some(_) => {}
        }
    }
    Ok(differences)
}

fn count(found: &[u8], expected: &Data) -> usize {
    let (found, expected) = (found.chunks(4), expected.bytes().chunks(4));
    let missing = found.len().abs_diff(expected.len());
    missing + found.zip(expected).filter(|(a, b)| a != b).count()
}
