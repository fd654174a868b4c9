//! A small builder of ONNX graphs, and a checker of finished models.
//!
//! Values carry their element type and shape, so that every mistake of a lowering is found where it is made. Names of
//! nodes and initializers follow the modules of the network: `blocks.0.attn.qkv.MatMul`. Operators are offered in the one
//! spelling that all engines run correctly (`docs/onnx.md`), and a few of a newer [`Opset`].

mod builder;
mod check;
mod data;
mod file;
mod image;
mod layout;
mod newer;
mod ops;
mod precision;
mod value;

pub use builder::{Builder, CHANNELS_FIRST, Layout, Parameters, Scope, TRANSPOSED};
pub use check::check;
pub(crate) use check::check_model;
pub use data::Data;
pub(crate) use file::ALIGNMENT;
pub use file::{DATA_ENDING, Graph, WriteError};
pub use precision::{EIGHT_BITS, SCALES};
pub use value::{DType, Dim, Shape, Value};

/// A version of ONNX's own operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opset {
    /// 17, which every engine runs.
    #[default]
    Portable,
    /// 23, which knows attention, RMSNorm and rotations as operators.
    Newer,
}

impl Opset {
    const ALL: [Self; 2] = [Self::Portable, Self::Newer];

    /// Its number.
    #[must_use]
    pub fn version(self) -> i64 {
        match self {
            Self::Portable => 17,
            Self::Newer => 23,
        }
    }

    /// The version of the file format that belongs to it.
    #[must_use]
    pub fn ir_version(self) -> i64 {
        match self {
            Self::Portable => 8,
            Self::Newer => 11,
        }
    }
}

/// A graph that cannot be, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("graph: {at}: {problem}")]
pub struct GraphError {
    /// The node, parameter or value at fault.
    pub at: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl GraphError {
    pub(crate) fn new(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { at: at.into(), problem: problem.into() }
    }
}

/// Result with a [`GraphError`].
pub type Result<T> = std::result::Result<T, GraphError>;
