//! Reference numbers: where they are and how close is close.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use drifting_models::weights::read;

/// The largest difference, relative to the largest expected number.
const BAR: f32 = 1e-4;

/// `name` in the folder that DRIFTING_GOLDEN names, else in the project's own copy.
pub(crate) fn folder(name: &str) -> PathBuf {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from).join(name)
}

/// Inputs and expected outputs of the folder `name`.
pub(crate) fn io(name: &str) -> BTreeMap<String, Tensor> {
    read(&folder(name).join("io.safetensors"), &Device::Cpu).unwrap().tensors
}

/// Asserts that two tensors are the same up to [`BAR`].
pub(crate) fn agree(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let largest = |tensor: &Tensor| tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let error = largest(&(found - expected).unwrap()) / largest(expected);
    println!("{what}: largest difference {error:.1e} of the largest number");
    assert!(error <= BAR, "{what}: {error}");
}
