//! What can go wrong in an optimizer step.

/// Result with [`OptimError`].
pub type Result<T> = std::result::Result<T, OptimError>;

/// An error of the optimizer, of its settings or of its saved state.
#[derive(Debug, thiserror::Error)]
pub enum OptimError {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A setting is outside its range.
    #[error("{key} is {value}, expected {expected}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A parameter got no gradient.
    #[error("parameter {name} has no gradient: does the loss depend on it?")]
    NoGradient {
        /// Parameter name.
        name: String,
    },
    /// A gradient belongs to no parameter.
    #[error("gradient {name} belongs to no parameter")]
    UnknownGradient {
        /// Name of the gradient.
        name: String,
    },
    /// A gradient has another shape or type than its parameter.
    #[error("gradient of {name} is {found}, expected {expected}")]
    Gradient {
        /// Parameter name.
        name: String,
        /// Type and shape of the parameter.
        expected: String,
        /// Type and shape of the gradient.
        found: String,
    },
    /// A gradient holds NaN or infinite numbers.
    #[error("gradient of {name} holds NaN or infinite numbers; a lower learning rate or a longer warm-up may help")]
    NotFinite {
        /// Parameter name.
        name: String,
    },
    /// Saved state does not fit the parameters.
    #[error("saved state: tensor {name} {problem}")]
    State {
        /// Name of the saved tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}
