//! What is raced: an operation, its sizes, and how much of it is computed.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde_json::{Value, json};

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// How much of an operation is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The result, with nothing kept for gradients.
    Forward,
    /// The result and the gradient of the first input: an operation of a frozen encoder.
    Frozen,
    /// The result and the gradients of all inputs.
    Training,
    /// One step of the optimizer.
    Step,
}

impl Pass {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Frozen => "forward and back to the input",
            Self::Training => "forward and back",
            Self::Step => "a step",
        }
    }
}

/// An operation with its inputs, ready to run.
pub(crate) struct Contender {
    pub(crate) inputs: Tensors,
    /// Runs it once: results by name (`y`), gradients by the name of the input (`d.x`).
    pub(crate) once: Box<dyn FnMut() -> Tensors>,
    /// What is timed, if it is not the same: back from a gradient of ones, with which both sides begin by themselves.
    pub(crate) timed: Option<Box<dyn FnMut()>>,
}

/// What is raced.
pub(crate) struct Case {
    /// Name in the report.
    pub(crate) op: &'static str,
    /// The function of the peer that does the same.
    pub(crate) peer: &'static str,
    pub(crate) shape: String,
    pub(crate) pass: Pass,
    /// What the peer must know besides the inputs.
    pub(crate) settings: Value,
    /// Inputs whose gradients are computed.
    pub(crate) tracked: Vec<String>,
    pub(crate) open: Box<dyn Fn() -> Contender>,
}

impl Case {
    /// A name without spaces.
    pub(crate) fn id(&self) -> String {
        let name = format!("{} {} {}", self.op, self.shape, self.pass.name());
        let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        words.join("-").to_lowercase()
    }

    pub(crate) fn open(&self) -> Contender {
        (self.open)()
    }

    /// The case as the peer reads it.
    pub(crate) fn about(&self) -> Value {
        json!({
            "id": self.id(),
            "op": self.op,
            "peer": self.peer,
            "shape": self.shape,
            "pass": self.pass.name(),
            "settings": self.settings,
            "tracked": self.tracked,
        })
    }
}
