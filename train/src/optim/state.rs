//! Strict reading of saved state.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;

use super::{OptimError, Result};

/// The saved tensors under one prefix, each of which must be taken.
pub(super) struct Saved<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
    prefix: &'a str,
    left: BTreeSet<&'a str>,
}

impl<'a> Saved<'a> {
    pub(super) fn new(tensors: &'a BTreeMap<String, Tensor>, prefix: &'a str) -> Self {
        let left = tensors.keys().map(String::as_str).filter(|name| name.starts_with(prefix)).collect();
        Self { tensors, prefix, left }
    }

    /// The tensor `name`, which must have the shape and type of `like`; it is moved to the device of `like`.
    pub(super) fn take(&mut self, name: &str, like: &Tensor) -> Result<Tensor> {
        let name = format!("{}{name}", self.prefix);
        let Some(tensor) = self.tensors.get(&name) else {
            return Err(OptimError::State { name, problem: "is missing".into() });
        };
        self.left.remove(name.as_str());
        if tensor.shape() != like.shape() || tensor.dtype() != like.dtype() {
            let problem = format!("is {}, expected {}", describe(tensor), describe(like));
            return Err(OptimError::State { name, problem });
        }
        Ok(tensor.to_device(like.device())?.contiguous()?)
    }

    /// Ends the reading; a tensor that nobody took is an error.
    pub(super) fn finish(self) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some(&name) => Err(OptimError::State { name: name.into(), problem: "belongs to no parameter".into() }),
        }
    }
}

/// Type and shape for messages, such as `F32 [3, 4]`.
pub(super) fn describe(tensor: &Tensor) -> String {
    format!("{:?} {:?}", tensor.dtype(), tensor.dims())
}
