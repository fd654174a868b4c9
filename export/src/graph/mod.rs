//! A small builder of ONNX graphs, and a checker of finished models.
//!
//! Values carry their element type and shape, so that every mistake of a lowering is found where it is made. Names of
//! nodes and initializers follow the modules of the network: `blocks.0.attn.qkv.MatMul`. Only operators of opset
//! [`OPSET`] are offered, each in the one spelling that all engines run correctly (`docs/onnx.md`).

mod builder;
mod check;
mod data;
mod file;
mod image;
mod layout;
mod ops;
mod value;

pub use builder::{Builder, CHANNELS_FIRST, Layout, Scope, TRANSPOSED};
pub use check::check;
pub use data::Data;
pub use file::Graph;
pub use value::{DType, Dim, Shape, Value};

/// The operator set of all graphs.
pub const OPSET: i64 = 17;

/// The version of the file format, the one that belongs to [`OPSET`].
pub const IR_VERSION: i64 = 8;

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
