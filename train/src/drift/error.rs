//! What can go wrong with the objective.

/// A setting, a batch or a feature that the objective cannot use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriftError {
    /// A setting is out of its range or contradicts another one.
    #[error("drift.{key}: {problem}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// Sizes that contradict each other.
    #[error("feature key {key}: {problem}")]
    Shape {
        /// Name of the feature key.
        key: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// Features that are no numbers, or so large that their squares are not.
    #[error(
        "feature key {key}: class group {group}, location {location}: {set} features hold NaN, infinite or huge numbers"
    )]
    NotFinite {
        /// Name of the feature key.
        key: String,
        /// Class group.
        group: usize,
        /// Location.
        location: usize,
        /// Which samples: generated, unconditional or positive.
        set: &'static str,
    },
    /// A tensor operation, such as one that the device has no memory for.
    #[error("feature key {key}: {problem}")]
    Tensor {
        /// Name of the feature key.
        key: String,
        /// What the operation says.
        problem: String,
    },
}
